// session.h - one simulated engine process with the shim in it: it attaches weight files, touches their pages, falls back
// when it is told to or left alone, and dies at any time.
//
// Owns:      what the process wants; what it is to the kernel belongs to the world.
// Invariant: it does what the protocol allows and no more (docs/protocol.md): one request at a time, an order is obeyed in
//            two steps, a range is given up only after tierd has answered.
// Callers:   scenario.cc, one step at a time.
#pragma once

#include "lib/engine/core.h"
#include "tests/sim/world.h"

namespace tierd::sim {

// Does the part of the session server that stands between a request and the engine.
class Desk {
  public:
    virtual ~Desk() = default;
    virtual void post(Mailbox::Closure closure) = 0;
    virtual std::shared_ptr<WeightFile> make_file(File& file) = 0;
    virtual bool heartbeat_is_late() = 0;
};

class Session {
  public:
    Session(World& world, Desk& desk, Process& process);

    // Something that it does on its own: a touch, a new mapping, an end.
    void act();
    // What it must do sooner or later: obey, retry, notice that tierd is gone. False: there is nothing.
    bool react();
    void die();

    bool waits() const;  // a thread sleeps in a fault
    uint64_t longest_wait_ns() const;
    bool is_over() const { return closed_; }
    const Process& process() const { return process_; }

  private:
    enum class Asking : uint8_t { nothing, opening, finding, adopting, attaching, mapping, unmapping };

    void connect();
    void attach();
    void find();
    void adopt();
    void map();
    void unmap();
    void advise();
    void touch(Thread& thread);
    void touch_at(Thread& thread, Range& range, uint64_t address);
    bool execute();
    static std::vector<Range> split(const Range& range, uint64_t begin, uint64_t end);
    void arm_hint(const wire::FallBack& order);
    void finish_leaving(Range& range);
    void break_off();
    void close();

    World& world_;
    Desk& desk_;
    Process& process_;
    Fd userfaultfd_;
    Asking asking_ = Asking::nothing;
    uint64_t number_ = 0;  // tierd's for it
    bool closed_ = false;
    bool broke_off_ = false;
    File* wanted_ = nullptr;
    std::shared_ptr<WeightFile> served_;
    uint64_t next_address_ = 0x7000'0000'0000;
    std::vector<uint32_t> executed_;  // orders to be acknowledged when their ranges stand on the file
};

}  // namespace tierd::sim
