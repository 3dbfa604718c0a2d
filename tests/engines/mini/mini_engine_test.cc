// mini_engine_test.cc - every way of the mini engine gives the checksum that the host computes, on the simulated GPU.
#define BOOST_TEST_MODULE mini_engine
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <sstream>

#include "tests/simcuda/test/child.h"

using namespace simcuda_test;

namespace {

using Words = std::vector<std::string>;

struct Model {
    std::string path =
        (std::filesystem::temp_directory_path() / ("mini-" + std::to_string(::getpid()) + ".safetensors"))
            .string();
    std::vector<std::string> expected;
    Model() {
        expected =
            run("mini_infer", {"--make-layers", "9", "--make-width", "777", "--reference", "--repeat", "3"});
    }
    ~Model() { std::filesystem::remove(path); }

    // The checksums that the program prints; it must end well.
    std::vector<std::string> run(const std::string& program, const Words& options,
                                 Environment extra = {}) const {
        Environment environment = {{"LD_LIBRARY_PATH", SIMCUDA_FOLDER},
                                   {"SIMCUDA_KERNELS", SIMCUDA_FOLDER "/mini_kernels.so"},
                                   {"SIMCUDA_MEMORY", "64MiB"},
                                   {"SIMCUDA_POISON", "1"}};
        environment.insert(environment.end(), extra.begin(), extra.end());
        Words command = {SIMCUDA_FOLDER "/" + program, path};
        command.insert(command.end(), options.begin(), options.end());
        Child child(command, environment);
        std::istringstream said(child.rest());
        int status = child.wait();
        BOOST_TEST_CONTEXT(said.str()) BOOST_TEST(status == 0);
        std::vector<std::string> sums;
        for (std::string word; said >> word;)
            if (word == "checksum" && said >> word) sums.push_back(word);
        return sums;
    }
};

Model& model() {
    static Model one;
    return one;
}

void check(const std::string& program, Words options, Environment extra = {}) {
    options.insert(options.end(), {"--repeat", "3"});
    std::vector<std::string> sums = model().run(program, options, extra);
    BOOST_TEST(sums == model().expected, boost::test_tools::per_element());
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_host_gives_a_checksum_for_each_request) {
    BOOST_TEST(model().expected.size() == 3u);
    BOOST_TEST(model().expected[0] != model().expected[1]);
}
BOOST_AUTO_TEST_CASE(weights_loaded_as_pytorch_loads_them_give_it) {
    check("mini_infer", {"--load", "pytorch"});
}
BOOST_AUTO_TEST_CASE(weights_loaded_through_bounce_buffers_give_it) {
    check("mini_infer", {"--load", "llama"});
}
BOOST_AUTO_TEST_CASE(weights_copied_from_the_mapping_give_it) {
    check("mini_infer", {"--load", "llama-mmap"});
}
BOOST_AUTO_TEST_CASE(the_thread_s_own_default_stream_gives_it) {
    check("mini_infer_ptds", {"--load", "pytorch"});
}
BOOST_AUTO_TEST_CASE(a_captured_graph_gives_it) {
    check("mini_infer", {"--graph"});
}
BOOST_AUTO_TEST_CASE(stream_ordered_memory_gives_it) {
    check("mini_infer", {"--pool", "--load", "llama"});
}
BOOST_AUTO_TEST_CASE(managed_memory_on_a_gpu_that_is_too_small_gives_it) {
    check("mini_infer", {"--managed"}, {{"SIMCUDA_MEMORY", "8MiB"}});
}
BOOST_AUTO_TEST_CASE(the_driver_api_gives_it) {
    for (Words way : {Words{}, Words{"--graph"}, Words{"--pool"}}) {
        way.insert(way.end(), {"--ptx", SIMCUDA_FOLDER "/mini_kernels.ptx"});
        check("mini_driver", way);
    }
}
BOOST_AUTO_TEST_CASE(modelled_time_changes_no_byte) {
    check("mini_infer", {"--load", "llama"},
          {{"SIMCUDA_COPY_BYTES_PER_S", "8GiB"}, {"SIMCUDA_LAUNCH_NS", "3000"}});
    check("mini_infer", {"--graph"},
          {{"SIMCUDA_COPY_BYTES_PER_S", "8GiB"}, {"SIMCUDA_LAUNCH_NS", "3000"}, {"SIMCUDA_TIME", "virtual"}});
}
