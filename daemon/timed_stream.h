// timed_stream.h - a connected unix stream socket whose reads and writes end at a deadline.
//
// Owns:      the descriptor.
// Invariant: no call blocks past the deadline, however slowly the other side sends, nor after the
//            stop descriptor is readable.
// Callers:   one thread at a time.
// Fails:     through boost's error_code: timed_out, operation_aborted (stopped), eof, or the call's errno.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <cstdint>

#include "lib/base/fd.h"

namespace tierd {

// Models Beast's SyncReadStream and SyncWriteStream: boost::asio's own synchronous calls know no timeouts.
class TimedStream {
  public:
    // `stop`: descriptor that becomes readable when all work has to end, not owned; -1: none.
    explicit TimedStream(Fd socket, int stop = -1) : socket_(std::move(socket)), stop_(stop) {}

    // The moment (CLOCK_MONOTONIC) at which every read and write fails.
    void set_deadline_ns(uint64_t deadline_ns) { deadline_ns_ = deadline_ns; }

    // Waits until a byte, the end or an error can be read. False with `error` set when it can't.
    bool wait_readable(boost::system::error_code& error);

    // Ends the writing side and drops what the other side still sends until it closes, or the deadline:
    // closing with unread bytes would reset the connection and take the answer with it.
    void finish();

    template <class Buffers>
    size_t read_some(const Buffers& buffers, boost::system::error_code& error) {
        boost::asio::mutable_buffer first = first_of<boost::asio::mutable_buffer>(buffers);
        return first.size() == 0 ? 0 : receive(first.data(), first.size(), error);
    }
    template <class Buffers>
    size_t write_some(const Buffers& buffers, boost::system::error_code& error) {
        boost::asio::const_buffer first = first_of<boost::asio::const_buffer>(buffers);
        return first.size() == 0 ? 0 : send(first.data(), first.size(), error);
    }
    // The concepts ask for the throwing forms too.
    template <class Buffers>
    size_t read_some(const Buffers& buffers) {
        boost::system::error_code error;
        size_t count = read_some(buffers, error);
        if (error) throw boost::system::system_error(error);
        return count;
    }
    template <class Buffers>
    size_t write_some(const Buffers& buffers) {
        boost::system::error_code error;
        size_t count = write_some(buffers, error);
        if (error) throw boost::system::system_error(error);
        return count;
    }

  private:
    // The first buffer that is not empty: a short count is always allowed.
    template <class Buffer, class Buffers>
    static Buffer first_of(const Buffers& buffers) {
        auto end = boost::asio::buffer_sequence_end(buffers);
        for (auto it = boost::asio::buffer_sequence_begin(buffers); it != end; ++it)
            if (Buffer buffer(*it); buffer.size() != 0) return buffer;
        return Buffer();
    }
    size_t receive(void* to, size_t size_bytes, boost::system::error_code& error);
    size_t send(const void* from, size_t size_bytes, boost::system::error_code& error);
    bool wait(short events, boost::system::error_code& error);

    Fd socket_;
    int stop_;
    uint64_t deadline_ns_ = UINT64_MAX;
};

// Connects to a unix stream socket; waits at most `timeout_ms` for a place in its queue. Errors: errno of
// connect(2), EAGAIN being the timeout; bad_input for a path that is too long for the kernel.
Result<Fd> connect_unix(const std::string& path, uint32_t timeout_ms);

}  // namespace tierd
