// reader.h - the parts of tierd_reader, the stand-in for an engine: it maps files and checks what it reads,
// as told by its standard input. It knows nothing of tierd; the preloaded library does the rest.
//
// Owns:      the words of a command and the table of mappings.
// Invariant: a page is judged by what the kernel's own mapping of the file would show: the file's bytes,
//            zeros between the end of the file and the end of its last page, SIGBUS behind that, and what
//            this process wrote itself.
// Callers:   commands run one at a time on the main thread; those that start threads join them before they
//            answer.
// Fails:     a command that can't be carried out throws std::runtime_error; the answer is then {"error":
//            text}.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tierd::itest {

using Json = nlohmann::json;

// One line of input: "verify map=0 seed=7 order=random".
class Command {
  public:
    explicit Command(const std::string& line);
    const std::string& name() const { return name_; }
    bool has(const std::string& key) const { return values_.count(key) != 0; }
    uint64_t number(const std::string& key) const;  // throws where it is missing or no number
    uint64_t number(const std::string& key, uint64_t otherwise) const;
    std::string text(const std::string& key) const;  // throws where it is missing
    std::string text(const std::string& key, const std::string& otherwise) const;

  private:
    std::string name_;
    std::map<std::string, std::string> values_;
};

// One mapping of a file, as the stand-in made it.
struct MappedFile {
    char* address = nullptr;
    uint64_t length_bytes = 0;
    uint64_t offset_bytes = 0;  // of the file
    uint64_t file_bytes = 0;    // size of the file when it was mapped
    uint64_t device = 0;
    uint64_t inode = 0;
    std::vector<uint32_t>
        generations;  // of each page: how often this process wrote it; empty: it never wrote
};

struct Reader {
    std::vector<MappedFile> maps;
    // A thread sets this word when the line "stop" arrives; the loops of `until=stop` end then.
    std::atomic<bool> stop{false};
    // Threads of the running command that have finished their first page.
    std::atomic<unsigned> begun{0};

    MappedFile& map_of(const Command& command);
};

// Reads [from, from + length) of a mapping in the order told and counts what is wrong. Answer: bytes, wrong,
// first_wrong, other (pages that wholly hold `other_seed`), sigbus (pages), first_sigbus, stall_ms (slowest
// page), passes.
Json verify(Reader& reader, const Command& command);
// Writes random pages from several threads, each page by one thread, checking each before it writes. Answer
// as verify().
Json write_pages(Reader& reader, const Command& command);
// Checks every page against what write_pages() left there.
Json verify_writes(Reader& reader, const Command& command);

// fork() with the parent and the child verifying at once; posix_spawn and vfork + exec of a second stand-in;
// a clone system call that no library sees. Answers: child_status (as waitpid(2) gives it) and what verify()
// says in the parent.
Json fork_verify(Reader& reader, const Command& command);
Json fork_verify_writes(Reader& reader, const Command& command);
Json spawn_verify(Reader& reader, const Command& command);
Json vfork_verify(Reader& reader, const Command& command);
Json clone_and_exit(Reader& reader, const Command& command);

// The calls on mappings. Each answers with `result` (0, or an errno).
Json map_file(Reader& reader, const Command& command);
Json map_by_plugin(Reader& reader, const Command& command);
Json unmap(Reader& reader, const Command& command);
Json remap(Reader& reader, const Command& command);
Json protect(Reader& reader, const Command& command);
Json advise(Reader& reader, const Command& command);
Json lock(Reader& reader, const Command& command);
Json sync(Reader& reader, const Command& command);
Json map_zeros_over(Reader& reader, const Command& command);
Json write_out(Reader& reader, const Command& command);
Json read_in(Reader& reader, const Command& command);
// What stands behind [from, from + length): runs of {from, length, what: arena | file | anonymous | nothing}.
Json backing(Reader& reader, const Command& command);

// Runs `touch(page)` and says whether the page could be read: false after SIGBUS. Any thread.
bool guarded(void (*touch)(void*), void* argument);
void install_sigbus_handler();

}  // namespace tierd::itest
