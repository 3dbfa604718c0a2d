// environment.h - the environment of tierd-run's two children, and the paths of tierd's files.
//
// Owns:      nothing; every call reads this process's environment and returns a copy.
// Callers:   the only thread.
// Fails:     the find functions return an empty path when there is no such file.
#pragma once

#include <string>
#include <vector>

namespace tierd::run {

// How a command reaches its tierd.
struct Connection {
    std::string shim;                // libtierd_shim.so
    std::string socket;              // where engines attach
    std::string control_socket;      // where tierctl connects
    std::vector<std::string> match;  // patterns of further weight files
};

// This process's environment, with the shim before whatever is preloaded already.
std::vector<std::string> environment_of_command(const Connection& connection);

// This process's environment without what is meant for others: preloaded libraries, another tierd's sockets,
// systemd's notification socket.
std::vector<std::string> environment_of_daemon();

// This process's environment as it is.
std::vector<std::string> environment();

std::string find_daemon();  // beside this program, else in PATH
std::string find_shim();    // ../lib beside this program's folder, else where packages put it

}  // namespace tierd::run
