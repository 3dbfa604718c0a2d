#include "cli/tierd_run/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

namespace tierd::run {

Result<Signals> Signals::block() {
    Signals signals;
    sigset_t taken;
    ::sigemptyset(&taken);
    for (int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::sigaddset(&taken, number);
    ::sigprocmask(SIG_BLOCK, &taken, &signals.original_);
    signals.fd_ = Fd(::signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals.fd_) return os_error("make a signalfd");
    return signals;
}

std::optional<TakenSignal> Signals::take() const {
    signalfd_siginfo info;
    if (::read(fd_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
    return TakenSignal{static_cast<int>(info.ssi_signo), info.ssi_code == SI_KERNEL};
}

}  // namespace tierd::run
