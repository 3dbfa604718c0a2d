// changed_settings.h - system settings that tierd changes while it runs, and restores when it ends.
//
// Owns:      what was changed, and the file that records it; the file is locked while it records something.
// Invariant: the file is written before a setting is. A setting that another program changed meanwhile is left alone.
// Callers:   one thread at a time.
#pragma once

#include <string>
#include <vector>

#include "lib/base/fd.h"

namespace tierd {

class ChangedSettings {
  public:
    // `note` is the file that remembers; what a killed tierd left in it is put back here, unless another that lives
    // holds it. Empty: nothing remembers.
    explicit ChangedSettings(std::string note = {});
    ~ChangedSettings();
    ChangedSettings(ChangedSettings&&) noexcept = default;

    // Writes `to` into a file below /sys/kernel/mm/. False: it can't be written; it is as it was.
    bool change(const std::string& path, const std::string& to);
    // False when a tierd that is killed would leave a change behind.
    bool remembered() const { return changes_.empty() || note_; }
    void restore();

    // A setting's value: its line, or of a choice such as "always [never]" the word in brackets. Empty: no such
    // setting.
    static std::string read(const std::string& path);

  private:
    struct Change {
        std::string path, before, after;
    };

    bool open_note(int more_flags);
    void write_note() const;

    std::string note_path_;
    Fd note_;
    std::vector<Change> changes_;
};

}  // namespace tierd
