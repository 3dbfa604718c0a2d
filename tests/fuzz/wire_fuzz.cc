// wire_fuzz.cc - fuzz target: any bytes as a client's messages, with descriptors of right and wrong kinds, to the real
// session server and the real engine.
//
// Owns:      one engine, its server and a folder, for the life of the process.
// Callers:   libFuzzer's main or replay_main.cc; the server's threads run beside.
// Fails:     aborts when the engine no longer answers; crashes are the sanitizers' to find.
//
// An input is a sequence of steps: which message, which descriptor, which header is broken, how many bytes follow, and
// these bytes, laid over the message behind its header.
#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "lib/base/bytes.h"
#include "lib/engine/engine.h"
#include "lib/session/packet.h"
#include "lib/session/server.h"
#include "tests/unit/fake_control.h"

namespace {

using namespace tierd;

constexpr wire::Kind kKinds[] = {wire::Kind::attach,    wire::Kind::map,        wire::Kind::unmap,
                                 wire::Kind::advise,    wire::Kind::hello,      wire::Kind::reply,
                                 wire::Kind::fall_back, wire::Kind::fallen_back};

size_t size_of(wire::Kind kind) {
    switch (kind) {
        case wire::Kind::attach:
            return sizeof(wire::Attach);
        case wire::Kind::map:
            return sizeof(wire::Map);
        case wire::Kind::unmap:
            return sizeof(wire::Unmap);
        case wire::Kind::advise:
            return sizeof(wire::Advise);
        case wire::Kind::reply:
            return sizeof(wire::Reply);
        case wire::Kind::fall_back:
            return sizeof(wire::FallBack);
        default:
            return sizeof(wire::Hello);
    }
}

struct Target {
    TempFolder folder;
    std::unique_ptr<Engine> engine;
    std::unique_ptr<Server> server;

    Target() {
        spdlog::set_level(spdlog::level::off);
        std::ofstream(folder.file("weights")) << std::string(1 << 20, 'w');
        std::ofstream(folder.file("empty"));
        std::ofstream(folder.file("sparse"));
        std::filesystem::resize_file(folder.file("sparse"), 1ull << 40);
        ::mkfifo(folder.file("fifo").c_str(), 0600);
        auto started = Engine::start({.budget_bytes = 16 * kMiB, .extent_bytes = 64 * kKiB});
        if (!started) std::abort();
        engine = std::move(*started);
        auto listening = Server::start({.socket_path = folder.file("tierd.sock"),
                                        .inherited_socket = {},
                                        .group = {},
                                        .user_mode_faults = true},
                                       *engine);
        if (!listening) std::abort();
        server = std::move(*listening);
    }

    // One of the kinds of descriptors that a client could send; empty: none.
    Fd descriptor(uint8_t which) const {
        switch (which % 13) {
            case 1:
            case 2:
                return opened("weights", O_RDONLY);
            case 3:
                return opened("weights", O_WRONLY);
            case 4:
                return opened("weights", O_PATH);
            case 5:
                return opened("", O_RDONLY | O_DIRECTORY);
            case 6:
                return opened("fifo", O_RDWR);
            case 7:
                return Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
            case 8:
                return Fd(::memfd_create("fuzz", MFD_CLOEXEC));
            case 9:
                return Fd(::eventfd(0, EFD_CLOEXEC));
            case 10:
                return Fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)));
            case 11:
                return opened("empty", O_RDONLY);
            case 12:
                return opened("sparse", O_RDONLY);
            default:
                return {};
        }
    }
    Fd opened(const char* name, int flags) const {
        return Fd(::open(folder.file(name).c_str(), flags | O_CLOEXEC));
    }

    Fd connect() const {
        Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, folder.file("tierd.sock").c_str(), sizeof address.sun_path - 1);
        if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
        return socket;
    }
};

// False when the server ended the session, as it may.
bool receive(const Fd& socket) {
    pollfd wait{socket.get(), POLLIN, 0};
    return ::poll(&wait, 1, 5000) > 0 && receive_packet(socket.get()).has_value();
}

struct Input {
    const uint8_t* at;
    const uint8_t* end;
    uint8_t byte() { return at == end ? 0 : *at++; }
    bool empty() const { return at == end; }
};

// Takes one step from the input and sends it. False: it could not be sent.
bool send_step(const Target& target, const Fd& socket, Input& input, uint32_t sequence) {
    wire::Kind kind = kKinds[input.byte() % std::size(kKinds)];
    Fd descriptor = target.descriptor(input.byte());
    uint8_t breaks = input.byte();
    size_t size = size_of(kind);
    std::array<std::byte, kMaxPacketBytes> message{};
    wire::Header header{wire::kMagic, wire::kVersion, kind, static_cast<uint32_t>(size), sequence};
    if (breaks == 1) header.magic++;
    if (breaks == 2) header.version++;
    if (breaks == 3) header.size_bytes = input.byte();
    if (breaks == 4) size = input.byte();
    std::memcpy(message.data(), &header, sizeof header);
    size_t follow = std::min<size_t>(input.byte(), message.size() - sizeof header);
    for (size_t i = 0; i < follow; i++) message[sizeof header + i] = std::byte{input.byte()};
    int raw = descriptor.get();
    size_t count = descriptor ? (breaks == 5 ? 2 : 1) : 0;
    std::array<int, 2> fds = {raw, raw};
    return send_packet(socket.get(), std::span(message).first(size), std::span(fds).first(count)).has_value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static Target target;  // a fuzz target has no main of its own to keep it in
    Input input{data, data + size};
    Fd socket = target.connect();
    if (!socket) return 0;
    auto hello = make_message<wire::Hello>(wire::Kind::hello, 0);
    if (input.byte() != 'x' && (!send_message(socket.get(), hello) || !receive(socket))) return 0;
    for (uint32_t sequence = 1; !input.empty() && sequence < 64; sequence++)
        if (!send_step(target, socket, input, sequence) || !receive(socket)) break;
    if (!target.engine->status()) std::abort();
    return 0;
}
