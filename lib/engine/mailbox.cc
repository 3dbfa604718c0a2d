#include "lib/engine/mailbox.h"

#include <unistd.h>

namespace tierd {

bool Mailbox::post(Closure closure) {
    {
        std::lock_guard lock(mutex_);
        if (closed_) return false;
        closures_.push_back(std::move(closure));
    }
    uint64_t one = 1;
    (void)!::write(eventfd_.get(), &one, sizeof one);
    return true;
}

std::vector<Mailbox::Closure> Mailbox::take() {
    uint64_t count = 0;
    (void)!::read(eventfd_.get(), &count, sizeof count);
    std::lock_guard lock(mutex_);
    return std::exchange(closures_, {});
}

void Mailbox::close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
}

}  // namespace tierd
