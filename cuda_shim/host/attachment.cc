#include "cuda_shim/host/attachment.h"

#include <fcntl.h>

#include "cuda_shim/host/shim_state.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim {

static bool same_time(const timespec& a, const timespec& b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

FileIdentity FileIdentity::of(const struct stat& st) {
    return {st.st_dev, st.st_ino, st.st_size, st.st_mtim, st.st_ctim};
}

bool FileIdentity::operator==(const FileIdentity& other) const {
    return device == other.device && inode == other.inode && size_bytes == other.size_bytes &&
           same_time(modified, other.modified) && same_time(changed, other.changed);
}

bool AttachmentTable::prepare() {
    if (rows_ != nullptr) return true;
    long got = sys::mmap(0, kMaxAttachments * sizeof(Attachment), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (sys::failed(got)) return false;
    rows_ = reinterpret_cast<Attachment*>(got);
    return true;
}

uint32_t AttachmentTable::find(const FileIdentity& identity) {
    for (uint32_t i = 0; i < used_rows_; i++) {
        if (rows_[i].users == 0 || rows_[i].arena.fd < 0 || !(rows_[i].identity == identity)) continue;
        rows_[i].users++;
        return i;
    }
    return kNoAttachment;
}

uint32_t AttachmentTable::take() {
    for (uint32_t i = 0; i < kMaxAttachments; i++) {
        if (i < used_rows_ && rows_[i].users != 0) continue;
        Attachment& row = rows_[i];
        if (i < used_rows_) close_row(row);
        if (i >= used_rows_) used_rows_ = i + 1;
        row.users = 1;
        row.weights = {};
        row.arena = {};
        row.path[0] = '\0';
        return i;
    }
    return kNoAttachment;
}

void AttachmentTable::close_row(Attachment& row) {
    row.weights.close();
    row.arena.close();
    row.users = 0;
}

void AttachmentTable::unpin(uint32_t index) {
    if (--rows_[index].users == 0) close_row(rows_[index]);
}

void AttachmentTable::collect() {
    for (uint32_t i = 0; i < used_rows_; i++)
        if (rows_[i].users == 0 && (rows_[i].weights.fd >= 0 || rows_[i].arena.fd >= 0)) close_row(rows_[i]);
}

void AttachmentTable::end_session() {
    for (uint32_t i = 0; i < used_rows_; i++) rows_[i].arena.close();
    collect();
}

int AttachmentTable::weight_fd(uint32_t index) {
    Attachment& row = rows_[index];
    if (row.weights.still_ours()) return row.weights.fd;
    long opened = sys::open(row.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (sys::failed(opened)) return static_cast<int>(opened);
    OwnedFd again = OwnedFd::own(static_cast<int>(opened));
    if (again.device != row.identity.device || again.inode != row.identity.inode) {
        again.close();
        return -ESTALE;
    }
    row.weights = again;
    return again.fd;
}

}  // namespace tierd::shim
