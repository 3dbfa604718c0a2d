#include "lib/io/reader.h"

#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>

#include <vector>

namespace tierd {

namespace {

constexpr unsigned kWorkers = 64;

// liburing reports failures as negative errno values; Result wants them the other way round.
std::unexpected<Error> ring_error(int result, std::string operation) {
    return std::unexpected(
        Error{Code::kernel_refused, -result, std::move(operation), "io_uring",
              "check that kernel.io_uring_disabled is 0 and that the memory lock limit is not tiny"});
}

class UringReader final : public Reader {
  public:
    ~UringReader() override {
        if (ready_) io_uring_queue_exit(&ring_);
    }

    Result<void> set_up(uint32_t entries, uint32_t max_files) {
        int made = io_uring_queue_init(entries, &ring_, 0);
        if (made < 0) return ring_error(made, "set up");
        ready_ = true;
        capacity_ = entries;
        // Reads that must wait have kernel threads, of which there are four a processor by default: reads that hang would
        // leave none to the others. Older kernels (before 5.15) don't know the call.
        unsigned workers[2] = {kWorkers, 0};
        (void)io_uring_register_iowq_max_workers(&ring_, workers);
        int registered = io_uring_register_files_sparse(&ring_, max_files);
        if (registered < 0) return ring_error(registered, "register files with");
        for (uint32_t i = max_files; i > 0; i--) free_files_.push_back(static_cast<int>(i - 1));
        return {};
    }

    Result<int> add_file(int fd) override {
        if (free_files_.empty())
            return fail(Code::no_space, "register weight file", {}, "close models that are no longer used");
        int slot = free_files_.back();
        int done = io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &fd, 1);
        if (done < 0) return ring_error(done, "register weight file with");
        free_files_.pop_back();
        return slot;
    }

    void remove_file(int file) override {
        int none = -1;
        io_uring_register_files_update(&ring_, static_cast<unsigned>(file), &none, 1);
        free_files_.push_back(file);
    }

    bool read(const ReadRequest& request) override {
        io_uring_sqe* sqe = next();
        if (sqe == nullptr) return false;
        io_uring_prep_read(sqe, request.file, request.into, request.length_bytes, request.offset_bytes);
        // Some file systems (FUSE, direct) say that they never wait and then do.
        io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE | (request.may_hang ? IOSQE_ASYNC : 0u));
        io_uring_sqe_set_data64(sqe, request.tag);
        return true;
    }

    bool stat(uint64_t tag, int fd, void* into) override {
        io_uring_sqe* sqe = next();
        if (sqe == nullptr) return false;
        io_uring_prep_statx(sqe, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, static_cast<struct statx*>(into));
        io_uring_sqe_set_data64(sqe, tag);
        return true;
    }

    void flush() override {
        if (queued_ == 0) return;
        queued_ = 0;
        io_uring_submit(&ring_);
    }

    size_t reap(const std::function<void(const Completion&)>& done) override {
        size_t count = 0;
        io_uring_cqe* cqe = nullptr;
        while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
            Completion completion{io_uring_cqe_get_data64(cqe), cqe->res};
            io_uring_cqe_seen(&ring_, cqe);
            in_flight_--;
            count++;
            done(completion);
        }
        return count;
    }

    int poll_fd() const override { return ring_.ring_fd; }
    uint32_t in_flight() const override { return in_flight_; }

  private:
    io_uring_sqe* next() {
        if (in_flight_ >= capacity_) return nullptr;
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        if (sqe != nullptr) {
            in_flight_++;
            queued_++;
        }
        return sqe;
    }

    io_uring ring_{};
    bool ready_ = false;
    uint32_t capacity_ = 0;
    uint32_t in_flight_ = 0;
    uint32_t queued_ = 0;
    std::vector<int> free_files_;
};

}  // namespace

Result<std::unique_ptr<Reader>> Reader::make(uint32_t entries, uint32_t max_files) {
    auto reader = std::make_unique<UringReader>();
    if (auto up = reader->set_up(entries, max_files); !up) return std::unexpected(up.error());
    return reader;
}

}  // namespace tierd
