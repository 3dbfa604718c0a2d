// inotify.h - hears when a weight file is written, truncated or replaced while it is served.
//
// Owns:      the inotify descriptor.
// Callers:   the engine's thread only. A missed event costs promptness, never right bytes: every fill checks
//            the file's identity again.
#pragma once

#include <vector>

#include "lib/base/fd.h"

namespace tierd {

class FileWatch {
  public:
    static Result<FileWatch> make();
    // Watches the open file; returns the watch's number, or -1 where that can't be (then only fills notice
    // changes).
    int add(int fd);
    void remove(int watch);
    // The watches that had events since the last call. Never blocks.
    std::vector<int> read();
    int poll_fd() const { return fd_.get(); }

  private:
    explicit FileWatch(Fd fd) : fd_(std::move(fd)) {}
    Fd fd_;
};

}  // namespace tierd
