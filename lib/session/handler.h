// handler.h - what the session server calls on the engine. The server handles sockets and messages, the engine
// handles weights.
//
// Callers:   one thread per session, many sessions at once. A call may block as long as the session's own file does,
//            never because of another session's.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>

#include "lib/base/fd.h"

namespace tierd {

struct Peer {
    pid_t pid = 0;  // of the process that connected, from SO_PEERCRED
    uid_t uid = 0;
    gid_t gid = 0;
    bool user_mode_faults = false;  // its userfaultfd does not see faults inside system calls
    bool arms_hints = false;        // it takes orders of kind arm_hint
};

using GpuId = std::array<uint8_t, 16>;  // a GPU's UUID

struct LeaseRequest {
    GpuId gpu{};
    uint64_t total_bytes = 0;  // of the GPU's memory, as the client reports it
};

struct AttachRequest {
    std::string path;       // for display; not trusted
    bool writable = false;  // PROT_WRITE, MAP_PRIVATE
    uid_t uid = 0;          // the client's
};

struct AttachAnswer {
    uint64_t file = 0;
    uint64_t size_bytes = 0;
    uint64_t extent_bytes = 0;
    uint64_t page_bytes = 0;
    uint64_t arena_bytes = 0;
    Fd arena;  // read-only
};

struct RegionRequest {
    uint64_t file = 0;
    uint64_t address = 0;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
};

// Why a client or a file is not served.
enum class Denial : uint8_t {
    not_in_group,    // the user may not have /dev/userfaultfd, and user_mode_faults is off
    too_many,        // sessions, of all or of one user
    protocol_error,  // a message that the protocol does not have
    descriptor,      // no readable regular file, or an empty one
    no_space,        // of the user's share of tierd's memory, of tables
    other,           // the log has the reason
};
inline constexpr size_t kDenials = 6;
inline constexpr const char* kDenialNames[kDenials] = {"not_in_group", "too_many", "protocol_error",
                                                       "descriptor",   "no_space", "other"};

class SessionHandler {
  public:
    virtual ~SessionHandler() = default;

    // `notice` is tierd's end of the command channel. Returns the session's number. Errors: busy while
    // shutting down.
    virtual Result<uint64_t> open_session(const Peer& peer, Fd command_channel) = 0;
    // Errors: bad_input, denied (the descriptor is no readable regular file), unsupported (the shim then
    //            uses the kernel).
    virtual Result<AttachAnswer> attach(uint64_t session, Fd file, const AttachRequest& request) = 0;
    // `userfaultfd` is empty but for the first region. Errors: bad_input for ranges that lie outside the
    // arena.
    virtual Result<void> map(uint64_t session, const RegionRequest& region, Fd userfaultfd) = 0;
    virtual Result<void> unmap(uint64_t session, uint64_t address, uint64_t length_bytes) = 0;
    virtual Result<void> will_need(uint64_t session, uint64_t address, uint64_t length_bytes) = 0;
    virtual void fallen_back(uint64_t session, uint32_t sequence, int status) = 0;
    virtual void close_session(uint64_t session) = 0;

    // For the counters; the client already has its reply.
    virtual void refused(Denial) {}

    // A lease channel, from here on the handler's: all that comes on it is lease messages.
    virtual void lease(Fd channel, const Peer& peer, const LeaseRequest& request) = 0;

    // A read-only descriptor of the heartbeat page; owned by the handler.
    virtual int heartbeat_fd() const = 0;
};

}  // namespace tierd
