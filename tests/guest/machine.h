// simulator.h - the virtual machine that a guest test runs in: its memory nodes, and plugging memory in and out.
//
// Owns:      nothing; the machine's monitor is reached through the port that scripts/guest.sh gives it.
// Callers:   one thread.
// Fails:     by std::runtime_error, which fails the test with its text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tierd::guest {

// The first line of a file of the kernel's; empty when there is none.
std::string first_line(const std::string& path);

// "0-2,5" as numbers.
std::vector<int> parse_list(const std::string& list);

std::vector<int> online_nodes();

// A command for the machine's monitor, such as "device_del x". Returns at once.
void tell_monitor(const std::string& command);

// Plugs a module of memory into a node, or pulls it, and waits until the kernel has taken notice. `id` names the
// module.
void plug_memory(const std::string& id, int node, uint64_t mib);
void pull_memory(const std::string& id, int node);

std::vector<int> memory_blocks(int node);
// Takes a memory block offline, or online again: 0, or the errno of the refusal. The kernel tries for as long as a page of
// the block can't be moved, and only a signal ends that: ETIMEDOUT when `seconds` have passed.
int set_block_online(int block, bool online, unsigned seconds = 30);

// Writes to standard error what every thread in the machine is doing, as the kernel knows it.
void show_stacks();

}  // namespace tierd::guest
