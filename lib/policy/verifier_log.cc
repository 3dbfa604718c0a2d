#include "lib/policy/verifier_log.h"

#include <cctype>

namespace tierd {
namespace {

struct Advice {
    std::string_view sign;  // part of the verifier's message
    std::string_view text;
};

constexpr Advice kAdvice[] = {
    {"write into map forbidden",
     "a policy writes its marks, its answer and its own maps; rows, models and tiers are tierd's"},
    {"map_value_or_null", "compare with NULL what a lookup returned before using it"},
    {"invalid access to map value", "compare the index with the array's size before using it"},
    {"unbounded memory access", "compare the index with the array's size before using it"},
    {"infinite loop", "loop with tierd_for"},
    {"program is too large", "loop with tierd_for, whose body is verified once"},
    {"too many states", "loop with tierd_for, whose body is verified once"},
    {"dereference of modified ctx", "read `call` by its fields only"},
    {"stack", "keep large data in a map: a program has 512 bytes of stack"},
};

// "12: (61) r0 = ..." and "12: R0=..." show instructions and registers; "; x = y; @ file:1" the source.
bool is_trace(std::string_view line) {
    if (line.empty() || line[0] == ';') return true;
    size_t digits = line.find_first_not_of("0123456789");
    if (digits != 0 && digits != line.npos && line[digits] == ':') return true;
    for (std::string_view prefix :
         {"from ", "processed ", "verification time", "stack depth", "func#", "mark_precise", "Validating ",
          "Func#", "last_idx", "parent ", "regs=", "max_states", "arg#", "caller:", "callee:", "frame",
          "old state", "cur state"})
        if (line.starts_with(prefix)) return true;
    return line.size() > 2 && line[0] == 'R' && std::isdigit(static_cast<unsigned char>(line[1])) != 0 &&
           line.find('=') != line.npos && line.find('=') < 12;
}

// "; mark->worth = now; @ fifo.bpf.c:17" → "fifo.bpf.c:17".
std::string_view place_in(std::string_view line) {
    size_t at = line.rfind(" @ ");
    return line.starts_with(';') && at != line.npos ? line.substr(at + 3) : std::string_view{};
}

}  // namespace

Complaint read_complaint(std::string_view log) {
    Complaint complaint;
    while (!log.empty()) {
        size_t end = log.find('\n');
        std::string_view line = log.substr(0, end);
        log.remove_prefix(end == log.npos ? log.size() : end + 1);
        if (std::string_view place = place_in(line); !place.empty())
            complaint.where = place;
        else if (!is_trace(line))
            complaint.message = line;
    }
    for (const Advice& advice : kAdvice) {
        if (complaint.message.find(advice.sign) == complaint.message.npos) continue;
        complaint.advice = advice.text;
        break;
    }
    return complaint;
}

}  // namespace tierd
