// child.h - runs a program for a test and hears what it says. Any thread.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace simcuda_test {

using Environment = std::vector<std::pair<std::string, std::string>>;

// A process whose standard output (and standard error) the test reads, and whose standard input it can write.
class Child {
  public:
    Child(const std::vector<std::string>& command, const Environment& environment) {
        int out[2], in[2];
        if (::pipe(out) < 0 || ::pipe(in) < 0) std::abort();
        std::vector<char*> words;
        for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
        words.push_back(nullptr);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::dup2(out[1], 1);
            ::dup2(out[1], 2);
            ::dup2(in[0], 0);
            for (int fd : {out[0], out[1], in[0], in[1]}) ::close(fd);
            for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
            ::execv(words[0], words.data());
            ::_exit(127);
        }
        ::close(out[1]);
        ::close(in[0]);
        out_ = out[0];
        in_ = in[1];
    }
    ~Child() {
        if (pid_ > 0) {
            kill();
            wait();
        }
        ::close(out_);
        if (in_ >= 0) ::close(in_);
    }
    Child(const Child&) = delete;

    void kill() { ::kill(pid_, SIGKILL); }
    void say(const std::string& line) { [[maybe_unused]] ssize_t n = ::write(in_, line.data(), line.size()); }
    void end_of_input() { ::close(std::exchange(in_, -1)); }

    // One line without its end; empty: the output ended.
    std::string line() {
        std::string text;
        char c;
        while (::read(out_, &c, 1) == 1 && c != '\n') text += c;
        return text;
    }
    std::string rest() {
        std::string text;
        char block[4096];
        for (ssize_t n; (n = ::read(out_, block, sizeof block)) > 0;)
            text.append(block, static_cast<size_t>(n));
        return text;
    }
    int wait() {
        int status = 0;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        return status;
    }

  private:
    pid_t pid_ = -1;
    int out_ = -1, in_ = -1;
};

}  // namespace simcuda_test
