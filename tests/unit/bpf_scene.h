// bpf_scene.h - tables of a test's own, and policies loaded over them.
//
// Owns:      the tables; a test writes their rows as the engine would.
// Callers:   tests of policies, one thread.
// Fails:     where policies can't be loaded at all the whole program is skipped, with the reason.
#pragma once

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "lib/policy/bpf_object.h"

namespace tierd {

struct NeedsBpf {
    NeedsBpf() {
        if (auto usable = bpf_usable(); !usable) {
            std::cout << "skipped: policies can't be loaded here: " << usable.error().text() << std::endl;
            std::_Exit(77);
        }
    }
};

struct BpfScene {
    static constexpr uint32_t kRoom = 65536;
    std::shared_ptr<BpfTables> tables = BpfTables::make(kRoom).value();
    std::string log;

    static std::string build_dir() {
        return std::getenv("TIERD_BUILD_DIR") ? std::getenv("TIERD_BUILD_DIR") : "build";
    }
    static ObjectFile read(const std::string& path) {
        auto file = read_object(path);
        BOOST_REQUIRE_MESSAGE(file.has_value(), (file ? "" : file.error().text()));
        return *file;
    }
    static ObjectFile test_object(const std::string& name) {
        return read(build_dir() + "/tests/policies/" + name + ".bpf.o");
    }
    static ObjectFile shipped(const std::string& name) {
        return read(build_dir() + "/policies/" + name + ".bpf.o");
    }
    Result<std::shared_ptr<BpfObject>> load(const ObjectFile& file, std::vector<Knob> knobs = {}) {
        return BpfObject::load(file, knobs, tables, &log);
    }
    std::shared_ptr<BpfObject> loaded(const ObjectFile& file, std::vector<Knob> knobs = {}) {
        auto object = load(file, knobs);
        BOOST_REQUIRE_MESSAGE(object.has_value(), (object ? "" : object.error().text() + "\n" + log));
        return *object;
    }
};

}  // namespace tierd
