// session.h - the connection to tierd: requests, commands, and what happens when no reply comes.
//
// Owns:      the request channel, the command channel, the userfaultfd, the heartbeat's mapping.
// Invariant: `live` only while a watchdog thread runs for it. A thread that meets an error calls break_off(). Only the
//            watchdog falls back and closes the descriptors, so that no number is closed while a thread waits on it.
// Callers:   with the request lock held, unless stated otherwise.
// Fails:     negative errno. No reply within the deadline, or a wrong one, ends the session.
#pragma once

#include <stdint.h>

#include "cuda_shim/host/owned_fd.h"
#include "lib/session/wire.h"

namespace tierd::shim {

enum class SessionStatus : uint32_t {
    none,
    live,
    broken,  // no more requests; the watchdog is giving everything back
};

struct Session {
    SessionStatus status =
        SessionStatus::none;  // atomic: the watchdog and the engine's threads both read and change it
    OwnedFd request;
    OwnedFd command_channel;
    OwnedFd uffd;
    bool uffd_sent = false;
    bool can_protect = false;  // write protection works on shmem: mappings that can be written are possible
    const wire::Heartbeat* heartbeat = nullptr;
    uint32_t deadline_ms = 500;
    uint32_t sequence = 0;
    uint64_t next_try_ns = 0;
    bool given_up = false;           // the socket did not answer once; it is not asked again
    uint32_t commands_executed = 0;  // atomic; counts the fall-backs that tierd ordered

    SessionStatus now() const { return __atomic_load_n(&status, __ATOMIC_ACQUIRE); }
    // Nanoseconds since the last heartbeat. Any thread, while the session is not closed.
    uint64_t silence_ns() const;
    bool hung() const { return silence_ns() > uint64_t{deadline_ms} * 1'000'000u; }
};

// True when there is a live session; makes one when it is time to try.
bool ensure_session();

// A connection to tierd of the caller's own: a descriptor, or a negative errno.
long connect_to_tierd();

// "May I have this file's arena?" Fills `reply` and `*arena_fd`.
long ask_attach(int weight_fd, const char* path, bool writable, bool shared, wire::Reply& reply,
                int* arena_fd);
long ask_map(uint64_t file, uint64_t address, uint64_t offset_bytes, uint64_t length_bytes);
long tell_unmap(uint64_t address, uint64_t length_bytes);
long tell_advice(uint64_t address, uint64_t length_bytes, wire::Advice advice);

// Ends the session from any thread, without any lock: requests fail from now on and the watchdog wakes.
void break_off(const char* why);

// Closes what is left of a broken session. The watchdog, or a forked child for its copies.
void close_session();

// Reads one message with its descriptors (close-on-exec; at most `room`, the rest is closed). Returns its
// length, 0 at the end of the stream, or a negative errno; -EPROTO for what is not of this protocol.
long receive_message(int socket, void* into, uint32_t size_bytes, int* fds, uint32_t room, uint32_t* count);
// Sends one message without waiting. Returns 0 or a negative errno.
long send_message(int socket, const void* message, uint32_t size_bytes, const int* fds, uint32_t count);

template <class T>
T make_message(wire::Kind kind, uint32_t sequence) {
    T message{};
    message.header = {wire::kMagic, wire::kVersion, kind, sizeof(T), sequence};
    return message;
}

}  // namespace tierd::shim
