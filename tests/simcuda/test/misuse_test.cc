// misuse_test.cc - each thing that a program must not do is said aloud, and gives the documented error where asked to.
#define BOOST_TEST_MODULE simcuda_misuse
#include <cuda.h>

#include <boost/test/unit_test.hpp>
#include <sstream>

#include "tests/simcuda/test/child.h"

using namespace simcuda_test;

namespace {

std::vector<std::string> cases() {
    Child list({MISUSE_CASES, "--list"}, {});
    std::istringstream text(list.rest());
    std::vector<std::string> names;
    for (std::string name; std::getline(text, name);) names.push_back(name);
    return names;
}

bool is_crash(const std::string& name) {
    return name.starts_with("kernel_");
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_mistake_ends_the_process_with_one_line_that_names_it) {
    std::vector<std::string> all = cases();
    BOOST_TEST(all.size() > 40u);
    for (const std::string& name : all) {
        Child child({MISUSE_CASES, name}, {});
        std::string said = child.rest();
        int status = child.wait();
        BOOST_TEST_CONTEXT(name << " said: " << said) {
            bool died =
                WIFSIGNALED(status) || (is_crash(name) && WIFEXITED(status) && WEXITSTATUS(status) != 0);
            BOOST_TEST(died);
            BOOST_TEST(said.starts_with("simcuda: "));
            if (!is_crash(name)) BOOST_TEST(std::count(said.begin(), said.end(), '\n') == 1);
        }
    }
}

BOOST_AUTO_TEST_CASE(a_program_that_asks_for_errors_gets_the_documented_ones) {
    for (const std::string& name : cases()) {
        if (is_crash(name)) continue;
        Child child({MISUSE_CASES, name}, {{"SIMCUDA_MISUSE", "error"}});
        std::string said = child.rest();
        int status = child.wait();
        BOOST_TEST_CONTEXT(name << " said: " << said) {
            BOOST_TEST(WIFEXITED(status));
            BOOST_TEST(WEXITSTATUS(status) == 1);
            int error = std::atoi(said.c_str());
            bool documented = error == CUDA_ERROR_INVALID_VALUE || error == CUDA_ERROR_INVALID_HANDLE ||
                              error == CUDA_ERROR_INVALID_CONTEXT ||
                              error == CUDA_ERROR_CONTEXT_IS_DESTROYED || error == CUDA_ERROR_NOT_PERMITTED ||
                              error == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED ||
                              error == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED ||
                              error == CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
            BOOST_TEST(documented);
        }
    }
}
