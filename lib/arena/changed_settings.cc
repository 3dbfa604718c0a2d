#include "lib/arena/changed_settings.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <fstream>

namespace tierd {

namespace {

constexpr std::string_view kSettings = "/sys/kernel/mm/";

bool write_line(const std::string& path, const std::string& text) {
    std::ofstream out(path);
    out << text << '\n' << std::flush;
    return out.good();
}

}  // namespace

ChangedSettings::ChangedSettings(std::string note) : note_path_(std::move(note)) {
    if (!open_note(0)) return;
    std::ifstream in(note_path_);
    Change change;
    while (in >> change.path >> change.before >> change.after)
        if (change.path.starts_with(kSettings)) changes_.push_back(change);
    restore();
}

ChangedSettings::~ChangedSettings() {
    restore();
}

std::string ChangedSettings::read(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    size_t open = line.find('['), close = line.find(']');
    return open < close && close != std::string::npos ? line.substr(open + 1, close - open - 1) : line;
}

bool ChangedSettings::change(const std::string& path, const std::string& to) {
    changes_.push_back({path, read(path), to});
    if (!note_) open_note(O_CREAT);
    write_note();
    if (write_line(path, to)) return true;
    changes_.pop_back();
    write_note();
    return false;
}

void ChangedSettings::restore() {
    for (const Change& change : changes_)
        if (read(change.path) == change.after) write_line(change.path, change.before);
    changes_.clear();
    if (note_) ::unlink(note_path_.c_str());
    note_.reset();
}

// False where there is none, or where another tierd that lives has it.
bool ChangedSettings::open_note(int more_flags) {
    if (note_path_.empty()) return false;
    note_ = Fd(::open(note_path_.c_str(), O_RDWR | O_CLOEXEC | more_flags, 0600));
    if (note_ && ::flock(note_.get(), LOCK_EX | LOCK_NB) == 0) return true;
    note_.reset();
    return false;
}

void ChangedSettings::write_note() const {
    if (!note_) return;
    std::string text;
    for (const Change& change : changes_)
        text += fmt::format("{} {} {}\n", change.path, change.before, change.after);
    write_line(note_path_, text);
}

}  // namespace tierd
