// worker.h - one thread that runs jobs in the order of post(): for system calls that may take long.
//
// Owns:      the thread and its queue.
// Invariant: every posted job runs exactly once, also those still queued when the worker is destroyed.
// Callers:   post() from any thread; a job must not post to its own worker and wait for it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>

namespace tierd {

class Worker {
  public:
    explicit Worker(const std::string& name);  // at most 15 characters, as the kernel shows threads
    ~Worker();                                 // runs what is queued, then joins
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    void post(std::function<void()> job);

  private:
    void run();

    std::mutex mutex_;  // guards jobs_ and stopping_; never held while a job runs
    std::condition_variable wake_;
    std::deque<std::function<void()>> jobs_;
    bool stopping_ = false;
    std::thread thread_;  // last: it uses everything above
};

// Has the worker run `job` and waits for what it returns. Not from a job of the same worker.
template <class Job>
auto run_on(Worker& worker, Job job) {
    std::promise<decltype(job())> promise;
    auto answer = promise.get_future();
    worker.post([&] { promise.set_value(job()); });
    return answer.get();
}

// Names the calling thread for ps and top; longer names are cut.
void name_this_thread(const std::string& name);

}  // namespace tierd
