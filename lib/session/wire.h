// wire.h - the messages between the preloaded shim and tierd. Plain structs: the shim links no C++ runtime.
//
// Owns:      the layout and the meaning of every message. docs/protocol.md describes their order.
//            Transport: a unix SOCK_SEQPACKET socket, one message per packet, with its descriptors (SCM_RIGHTS).
//            Each session has two channels: on the request channel the shim sends requests and tierd replies,
//            strictly in turn; on the command channel, a socket that comes with the reply to Hello, tierd sends
//            commands and the shim acknowledges them.
// Invariant: both sides check `magic`, `size_bytes` and every number. A message that fails a check ends the
//            session, and an ended session falls back to the kernel's mapping.
#pragma once

#include <stdint.h>

namespace tierd::wire {

inline constexpr uint32_t kMagic = 0x74696572;  // "tier"
inline constexpr uint16_t kVersion = 2;
inline constexpr uint32_t kMaxRegionsPerSession = 65536;
inline constexpr const char* kDefaultSocket = "/run/tierd/tierd.sock";

enum class Kind : uint16_t {
    // request channel: each request has one Reply
    hello = 1,
    attach = 2,
    map = 3,
    unmap = 4,
    advise = 5,
    reply = 6,
    // command channel
    fall_back = 16,
    fallen_back = 17,
    arm_hint = 18,  // laid out as FallBack; not acknowledged
    // lease channel: a connection of its own, which begins with lease_hello in the place of hello
    lease_hello = 32,
    lease_grow = 33,
    lease_shrunk = 34,
    lease_query = 35,  // a Header alone
    lease_residency = 36,
    lease_grant = 40,
    lease_reclaim = 41,
};

struct Header {
    uint32_t magic;
    uint16_t version;
    Kind kind;
    uint32_t size_bytes;  // of the whole message
    uint32_t sequence;    // a reply carries its request's; of a LeaseGrant see there
};

enum Ability : uint32_t {
    kAbilityArmHint = 1u << 0,  // executes commands of kind arm_hint
};

// shim → tierd, first message. Reply: `session`, `deadline_ms`; descriptors: heartbeat page (read-only memfd
// of one Heartbeat), command channel, and /dev/userfaultfd where the peer may have it (flag in `reply.flags`).
struct Hello {
    Header header;
    uint32_t pid;        // for display only; tierd trusts SO_PEERCRED
    uint32_t abilities;  // of enum Ability; others than those known are ignored
};

// shim → tierd: requests the arena of a weight file. Descriptor: the weight file, readable. Reply: `file`,
// `size_bytes`, `extent_bytes`, `page_bytes`, `arena_bytes`; descriptor: the arena, read-only.
struct Attach {
    Header header;
    uint8_t writable;  // the mapping is PROT_WRITE, MAP_PRIVATE: the arena must not be hugetlb
    uint8_t shared;    // the engine asked for MAP_SHARED
    uint8_t reserved[6];
    char path[256];  // the client's name of the file, for display only; NUL-terminated
};

// shim → tierd: arena bytes [offset, offset + length) are mapped at `address`, registered with the session's
// userfaultfd. Descriptor with the first Map of a session: the userfaultfd. From the reply on, touches are
// served.
struct Map {
    Header header;
    uint64_t file;
    uint64_t address;
    uint64_t offset_bytes;
    uint64_t length_bytes;
};

// shim → tierd: [address, address + length) is no longer mapped from the arena (unmapped or fallen back).
struct Unmap {
    Header header;
    uint64_t address;
    uint64_t length_bytes;
};

enum class Advice : uint32_t {
    will_need = 1,  // MADV_WILLNEED, MAP_POPULATE, mlock
    dont_need = 2,  // MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT
};
struct Advise {
    Header header;
    uint64_t address;
    uint64_t length_bytes;
    Advice advice;
    uint32_t reserved;
};

enum ReplyFlags : uint32_t {
    kReplyHasUserfaultfdDevice = 1u << 0,  // the third descriptor of Hello's reply is /dev/userfaultfd
    kReplyUserModeFaults = 1u << 1,        // no such descriptor, and a user-mode-only userfaultfd is allowed
};

struct Reply {
    Header header;
    int32_t status;  // 0, or a negative errno: the shim then uses the kernel's mapping
    uint32_t flags;
    uint64_t session;
    uint64_t file;
    uint64_t size_bytes;    // of the weight file
    uint64_t extent_bytes;  // power of two
    uint64_t page_bytes;   // of the arena: 4096, or 2 MiB for hugetlb; addresses must be congruent to offsets
                           // modulo it
    uint64_t arena_bytes;  // size_bytes rounded up to whole extents
    uint32_t deadline_ms;  // heartbeat older than this: tierd is hung
    uint32_t reserved;
};

// tierd → shim: put the kernel's mapping over every mapped byte of `file` in [offset, offset + length) of the
// file, wake all threads that wait there, then reply with FallenBack of the same sequence. file 0: all files,
// and the session ends.
struct FallBack {
    Header header;
    uint64_t file;
    uint64_t offset_bytes;
    uint64_t length_bytes;
};
// The same layout with kind arm_hint: unmap the page at `offset_bytes` of `file` in every mapping that
// can't be written, so that its next touch is a fault. `length_bytes` is the page's. A hint: it may be ignored.
struct FallenBack {
    Header header;
    int32_t status;  // 0, or a negative errno of the mapping call that failed
    uint32_t reserved;
};

// A GPU's memory is shared by leases: how much of it a process may have. The messages below go over a connection for
// each process and GPU; the lease ends with it. None of them has a Reply: tierd sends a LeaseGrant for every change,
// and for lease_query.

// shim → tierd, first message: "I am about to use this GPU."
struct LeaseHello {
    Header header;
    uint32_t pid;  // for display only; tierd trusts SO_PEERCRED
    uint32_t reserved;
    uint8_t gpu[16];       // its UUID
    uint64_t total_bytes;  // of the GPU's memory
};

// shim → tierd: the next launch needs a lease of `required_bytes`; with `requested_bytes` all that the process has
// allocated would be on the GPU. The process waits until a LeaseGrant is large enough. Only `required_bytes` may be
// beyond the capacity.
struct LeaseGrow {
    Header header;
    uint64_t required_bytes;
    uint64_t requested_bytes;
};

// shim → tierd: memory went back to the GPU; the lease is `lease_bytes` from now on. Answers LeaseReclaim, or comes by
// itself.
struct LeaseShrunk {
    Header header;
    uint64_t lease_bytes;   // not more than it was
    uint64_t pinned_bytes;  // of it, what can't be given back
};

// shim → tierd: which bytes of a weight file are in the GPU's memory, every second or so while that changes. For
// display only. With `begins`, what was shown before is forgotten.
struct LeaseResidency {
    Header header;
    uint64_t file;    // as Reply has it
    uint32_t begins;  // 0 or 1
    uint32_t count;   // of runs
    struct {
        uint64_t offset_bytes;
        uint64_t length_bytes;
    } runs[24];
};

// tierd → shim: the lease as it is now. The first one is the reply to LeaseHello. The sequence is that of the last
// message received from the process: if that is older than its last LeaseShrunk, `lease_bytes` is out of date.
struct LeaseGrant {
    Header header;
    int32_t status;     // 0, or a negative errno: tierd grants no leases of this GPU
    uint32_t position;  // in the queue of processes that wait for more; 0: not in it
    uint64_t lease_bytes;
    uint64_t limit_bytes;       // capacity of all leases, minus memory that other processes pinned
    uint64_t overcommit_bytes;  // the GPU's memory minus the same; only for a launch that can't run with less
    uint64_t others_bytes;      // the leases of all others
};

// tierd → shim: other processes wait; shrink to `lease_bytes`, at once when idle, otherwise not before
// `not_before_ns` (CLOCK_MONOTONIC): until then the process may keep its memory. Reply: LeaseShrunk.
struct LeaseReclaim {
    Header header;
    uint64_t lease_bytes;
    uint64_t not_before_ns;
};

// One page that every session maps read-only.
struct Heartbeat {
    uint64_t beat_ns;  // CLOCK_MONOTONIC of the engine thread's last round; atomic, relaxed is enough
    uint64_t pid;      // tierd's, for display
};

static_assert(sizeof(Header) == 16 && sizeof(Reply) == 80 && sizeof(Attach) == 280 && sizeof(Map) == 48);
static_assert(sizeof(LeaseHello) == 48 && sizeof(LeaseGrow) == 32 && sizeof(LeaseShrunk) == 32 &&
              sizeof(LeaseGrant) == 56 && sizeof(LeaseReclaim) == 32 && sizeof(LeaseResidency) == 416);

}  // namespace tierd::wire
