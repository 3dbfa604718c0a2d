// result.h - how tierd's functions fail: a value that says what was tried, on what, and why it did not work.
//
// Owns:      the Error record and the Result alias.
// Callers:   any thread. Nothing here blocks or allocates beyond the strings of an Error.
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <utility>

namespace tierd {

// Chosen by what the caller does next, not by what went wrong inside.
enum class Code {
    busy,            // try again later; nothing changed
    no_space,        // a budget, a tier or a table is full
    io,              // the origin could not be read
    bad_input,       // what the other side sent is not valid; it must change its request
    bad_config,      // the administrator must change the configuration
    not_found,       // the named thing does not exist
    denied,          // the caller lacks a right
    unsupported,     // this kernel or machine can't; the message says what would help
    kernel_refused,  // a system call failed for another reason; errno says which
    gone,            // the peer or the file is no longer there
};

// Returns a short lower-case word such as "no_space", for logs and JSON. Never fails.
const char* code_name(Code code) noexcept;

struct Error {
    Code code = Code::kernel_refused;
    int err = 0;            // positive errno of the failed call; 0: no system call was involved
    std::string operation;  // what was tried: "mmap arena", "parse gguf header"
    std::string object;     // on what: a path, a tensor's name; empty: the operation says it all
    std::string hint;       // what a person can do; empty: nothing beyond the obvious

    // One line for people: "cannot open /models/a.gguf: Permission denied (13); add tierd to group models".
    std::string text() const;
};

template <class T>
using Result = std::expected<T, Error>;

// Builds the failure of a system call. Call it before anything else can change errno.
inline std::unexpected<Error> os_error(std::string operation, std::string object = {},
                                       Code code = Code::kernel_refused) {
    int e = errno;
    return std::unexpected(Error{code, e, std::move(operation), std::move(object), {}});
}

// Builds a failure that no system call reported.
inline std::unexpected<Error> fail(Code code, std::string operation, std::string object = {},
                                   std::string hint = {}) {
    return std::unexpected(Error{code, 0, std::move(operation), std::move(object), std::move(hint)});
}

}  // namespace tierd
