#include "daemon/api_routes.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <vector>

#include "bpf/tierd_policy.h"
#include "daemon/api_json.h"
#include "daemon/metrics.h"
#include "lib/base/base64.h"
#include "lib/base/bytes.h"

namespace tierd {
namespace {

using nlohmann::json;

unsigned http_status(Code code) {
    switch (code) {
        case Code::bad_input:
            return 400;
        case Code::denied:
            return 403;
        case Code::not_found:
            return 404;
        case Code::no_space:
            return 409;
        case Code::gone:
            return 410;
        case Code::unsupported:
            return 501;
        case Code::busy:
            return 503;
        case Code::io:
        case Code::bad_config:
        case Code::kernel_refused:
            break;
    }
    return 500;
}

ApiResponse refuse(const Error& error) {
    return error_response(http_status(error.code), error);
}

ApiResponse json_response(const json& body, unsigned status = 200) {
    ApiResponse response;
    response.status = status;
    response.body = dump(body);
    return response;
}

template <class T>
ApiResponse one(const Result<T>& result) {
    return result ? json_response(to_json_value(*result)) : refuse(result.error());
}

template <class T>
json items_of(const std::vector<T>& list) {
    json items = json::array();
    for (const T& item : list) items.push_back(to_json_value(item));
    return items;
}

template <class T>
ApiResponse list(const char* key, const Result<std::vector<T>>& result) {
    return result ? json_response({{key, items_of(*result)}}) : refuse(result.error());
}

ApiResponse tiers(Control& control) {
    auto tiers = control.tiers();
    if (!tiers) return refuse(tiers.error());
    auto disks = control.disks();
    if (!disks) return refuse(disks.error());
    return json_response({{"tiers", items_of(*tiers)}, {"disks", items_of(*disks)}});
}

ApiResponse metrics(Control& control) {
    auto status = control.status();
    if (!status) return refuse(status.error());
    auto models = control.models();
    if (!models) return refuse(models.error());
    auto tiers = control.tiers();
    if (!tiers) return refuse(tiers.error());
    auto policy = control.policy();
    if (!policy) return refuse(policy.error());
    ApiResponse response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.body = prometheus_text(*status, *models, *tiers, *policy);
    return response;
}

ApiResponse faults(Control& control) {
    auto stages = control.faults();
    if (!stages) return refuse(stages.error());
    auto slowest = control.slowest_fault();
    if (!slowest) return refuse(slowest.error());
    json rows = json::array();
    for (const FaultStageStatus& stage : *stages) rows.push_back(to_json_value(stage));
    return json_response({{"stages", std::move(rows)}, {"slowest", to_json_value(*slowest)}});
}

using JobCall = Result<JobStatus> (Control::*)(uint64_t job);
ApiResponse on_job(Control& control, const std::string& text, JobCall call) {
    uint64_t number = 0;
    auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (text.empty() || error != std::errc{} || stop != text.data() + text.size())
        return refuse({Code::bad_input, 0, "read job", text, "a job is a number, as preload gave it"});
    return one((control.*call)(number));
}

ApiResponse started(const Result<JobStatus>& job) {
    if (!job) return refuse(job.error());
    ApiResponse response = json_response(to_json_value(*job), 202);
    response.location = fmt::format("/v1/jobs/{}", job->job);
    return response;
}

ApiResponse evict(Control& control, const std::string& model) {
    auto bytes = control.evict(model);
    return bytes ? json_response({{"evicted_bytes", *bytes}}) : refuse(bytes.error());
}

// A whole number that is not negative, in whichever way it is written: 8, 8.0 and 8e0 are one to JSON.
std::optional<uint64_t> whole_number(const json& value) {
    constexpr double kExact = 1ull << 53;  // beyond, not every whole number can be written so
    if (value.is_number_unsigned()) return value.get<uint64_t>();
    if (!value.is_number_float()) return std::nullopt;
    double number = value.get<double>();
    bool whole = number >= 0 && number <= kExact && number == std::floor(number);
    return whole ? std::optional(static_cast<uint64_t>(number)) : std::nullopt;
}

// A number of bytes, or a text such as "8GiB". `wrong` is what is said of anything else; a text says itself what is wrong in it.
Result<uint64_t> bytes_of(const json& value, const Error& wrong) {
    if (auto number = whole_number(value)) return *number;
    if (!value.is_string()) return std::unexpected(wrong);
    return parse_bytes(value.get<std::string>());
}

// A request that says one size and nothing else.
Result<uint64_t> only_size(const std::string& body, const char* key, const Error& wrong) {
    json request = json::parse(body, nullptr, false);
    if (!request.is_object() || request.size() != 1 || !request.contains(key)) return std::unexpected(wrong);
    return bytes_of(request[key], wrong);
}

ApiResponse add_tier(Control& control, const std::string& body) {
    const Error wrong{
        Code::bad_input,
        0,
        "read tier",
        {},
        R"(send {"name": "cxl2"}, and of kind, node, capacity_bytes, latency_ns and bandwidth_bytes_per_s what is to be)"};
    json request = json::parse(body, nullptr, false);
    if (!request.is_object() || !request.contains("name")) return refuse(wrong);
    TierOverride said;
    for (auto& [key, value] : request.items()) {
        bool taken = true;
        const auto number = whole_number(value);
        if (key == "name" && value.is_string())
            said.name = value.get<std::string>();
        else if (key == "kind" && value.is_string())
            taken = (said.kind = parse_tier_kind(value.get<std::string>())).has_value();
        else if (key == "node" && number && *number < 1024)
            said.node = static_cast<int>(*number);
        else if (key == "latency_ns" && number)
            said.latency_ns = *number;
        else if (key == "capacity_bytes" || key == "bandwidth_bytes_per_s") {
            auto bytes = bytes_of(value, wrong);
            if (!bytes) return refuse(bytes.error());
            (key == "capacity_bytes" ? said.capacity_bytes : said.bandwidth_bytes_per_s) = *bytes;
        } else
            taken = false;
        if (!taken) return refuse(wrong);
    }
    return said.name.empty() ? refuse(wrong) : one(control.add_tier(said));
}

ApiResponse resize_tier(Control& control, const std::string& name, const std::string& body) {
    const Error wrong{Code::bad_input, 0, "read size", name, R"(send {"capacity_bytes": "8GiB"})"};
    auto bytes = only_size(body, "capacity_bytes", wrong);
    return bytes ? one(control.resize_tier(name, *bytes)) : refuse(bytes.error());
}

ApiResponse start_trace(Control& control, const std::string& body) {
    if (body.empty()) return one(control.start_trace(false));
    json request = json::parse(body, nullptr, false);
    bool sound = request.is_object() && request.size() == 1 && request.contains("complete") &&
                 request["complete"].is_boolean();
    if (!sound)
        return refuse({Code::bad_input, 0, "start a trace", {}, R"(send {"complete": true} or nothing)"});
    return one(control.start_trace(request["complete"].get<bool>()));
}

ApiResponse pause_sources(Control& control, const std::string& body) {
    json request = json::parse(body, nullptr, false);
    bool sound = request.is_object() && request.size() == 1 && request.contains("paused") &&
                 request["paused"].is_boolean();
    if (!sound) return refuse({Code::bad_input, 0, "pause sources", {}, R"(send {"paused": true} or false)"});
    return list("sources", control.pause_sources(request["paused"].get<bool>()));
}

ApiResponse set_budget(Control& control, const std::string& body) {
    const Error wrong{
        Code::bad_input, 0, "read budget", {}, R"(send {"bytes": 8589934592} or {"bytes": "8GiB"})"};
    auto bytes = only_size(body, "bytes", wrong);
    return bytes ? one(control.set_budget(*bytes)) : refuse(bytes.error());
}

// {"name", "object": base64, "knobs": {"k": 1, "l": "text"}}; the knobs may be left out.
std::optional<PolicyLoad> read_policy_load(const std::string& body) {
    json request = json::parse(body, nullptr, false);
    if (!request.is_object()) return std::nullopt;
    PolicyLoad load;
    for (auto& [key, value] : request.items()) {
        if (key == "name" && value.is_string()) {
            load.name = value.get<std::string>();
        } else if (key == "object" && value.is_string()) {
            auto bytes = from_base64(value.get_ref<const std::string&>());
            if (!bytes) return std::nullopt;
            load.object = std::move(*bytes);
        } else if (key == "knobs" && value.is_object()) {
            for (auto& [knob, set] : value.items()) {
                if (!set.is_string() && !set.is_number_integer()) return std::nullopt;
                load.knobs.push_back({knob, set.is_string() ? set.get<std::string>() : set.dump()});
            }
        } else {
            return std::nullopt;
        }
    }
    bool whole = !load.name.empty() && load.name.size() < TIERD_NAME_BYTES && !load.object.empty();
    return whole ? std::optional(std::move(load)) : std::nullopt;
}

ApiResponse load_policy(Control& control, const std::string& body) {
    auto load = read_policy_load(body);
    if (load) return one(control.load_policy(*load));
    return refuse({Code::bad_input,
                   0,
                   "read the policy",
                   {},
                   R"(send {"name": "fifo", "object": "base64 of the file", "knobs": {"depth": 4}})"});
}

using Text = const std::string&;
// clang-format off
constexpr ApiRoute kRoutes[] = {
    {"GET",  "/v1/status",                [](Control& c, Text, Text) { return one(c.status()); }},
    {"GET",  "/v1/models",                [](Control& c, Text, Text) { return list("models", c.models()); }},
    {"GET",  "/v1/sessions",              [](Control& c, Text, Text) { return list("sessions", c.sessions()); }},
    {"GET",  "/v1/tiers",                 [](Control& c, Text, Text) { return tiers(c); }},
    {"POST", "/v1/tiers",                 [](Control& c, Text, Text body) { return add_tier(c, body); }},
    {"PUT",  "/v1/tiers/{name}",          [](Control& c, Text name, Text body) { return resize_tier(c, name, body); }},
    {"DELETE", "/v1/tiers/{name}",        [](Control& c, Text name, Text) { return started(c.remove_tier(name)); }},
    {"POST", "/v1/tiers/{name}/drain",    [](Control& c, Text name, Text) { return started(c.drain_tier(name)); }},
    {"GET",  "/v1/faults",                [](Control& c, Text, Text) { return faults(c); }},
    {"GET",  "/v1/sources",               [](Control& c, Text, Text) { return list("sources", c.sources()); }},
    {"PUT",  "/v1/sources",               [](Control& c, Text, Text body) { return pause_sources(c, body); }},
    {"GET",  "/v1/hot/{by}",              [](Control& c, Text by, Text) { return list("rows", c.hot(by)); }},
    {"GET",  "/v1/models/{name}/heatmap", [](Control& c, Text name, Text) { return one(c.heatmap(name)); }},
    {"GET",  "/v1/models/{name}/tensors", [](Control& c, Text name, Text) { return one(c.tensors(name)); }},
    {"POST", "/v1/models/{name}/preload", [](Control& c, Text name, Text) { return started(c.preload(name)); }},
    {"POST", "/v1/models/{name}/pin",     [](Control& c, Text name, Text) { return one(c.pin(name)); }},
    {"POST", "/v1/models/{name}/unpin",   [](Control& c, Text name, Text) { return one(c.unpin(name)); }},
    {"POST", "/v1/models/{name}/evict",   [](Control& c, Text name, Text) { return evict(c, name); }},
    {"GET",  "/v1/jobs/{job}",            [](Control& c, Text job, Text) { return on_job(c, job, &Control::job); }},
    {"DELETE", "/v1/jobs/{job}",          [](Control& c, Text job, Text) { return on_job(c, job, &Control::cancel); }},
    {"PUT",  "/v1/budget",                [](Control& c, Text, Text body) { return set_budget(c, body); }},
    {"GET",  "/v1/policy",                [](Control& c, Text, Text) { return one(c.policy()); }},
    {"PUT",  "/v1/policy",                [](Control& c, Text, Text body) { return load_policy(c, body); }},
    {"DELETE", "/v1/policy",              [](Control& c, Text, Text) { return one(c.unload_policy()); }},
    {"POST", "/v1/trace",                 [](Control& c, Text, Text body) { return start_trace(c, body); }},
    {"GET",  "/v1/trace",                 [](Control& c, Text, Text) { return one(c.fetch_trace()); }},
    {"DELETE", "/v1/trace",               [](Control& c, Text, Text) { return one(c.stop_trace()); }},
    {"GET",  "/metrics",                  [](Control& c, Text, Text) { return metrics(c); }},
};
// clang-format on

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// Undoes percent-encoding. Empty optional: a '%' without two digits, a NUL (no file has one in its name), or
// nothing at all.
std::optional<std::string> decode(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); i++) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        if (i + 2 >= text.size()) return std::nullopt;
        int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
        if (high < 0 || low < 0 || high + low == 0) return std::nullopt;
        out += static_cast<char>(high * 16 + low);
        i += 2;
    }
    return out.empty() ? std::nullopt : std::optional(out);
}

std::vector<std::string_view> segments(std::string_view path) {
    std::vector<std::string_view> parts;
    for (size_t begin = 0; begin != std::string_view::npos;) {
        size_t end = path.find('/', begin);
        parts.push_back(path.substr(begin, end == std::string_view::npos ? end : end - begin));
        begin = end == std::string_view::npos ? end : end + 1;
    }
    return parts;
}

// Whether `path` has the form of `pattern`; the segment that stands for the braces goes to `parameter`, still
// encoded.
bool matches(std::string_view pattern, const std::vector<std::string_view>& path,
             std::string_view& parameter) {
    auto wanted = segments(pattern);
    if (wanted.size() != path.size()) return false;
    for (size_t i = 0; i < path.size(); i++) {
        if (wanted[i].starts_with('{'))
            parameter = path[i];
        else if (wanted[i] != path[i])
            return false;
    }
    return true;
}

}  // namespace

std::span<const ApiRoute> api_routes() {
    return kRoutes;
}

ApiResponse error_response(unsigned status, const Error& error) {
    return json_response(to_json_value(error), status);
}

ApiResponse answer(Control& control, const ApiRequest& request) {
    auto path = segments(std::string_view(request.target).substr(0, request.target.find('?')));
    std::string allow;
    for (const ApiRoute& route : kRoutes) {
        std::string_view encoded;
        if (!matches(route.path, path, encoded)) continue;
        if (route.method != request.method) {
            allow += (allow.empty() ? "" : ", ") + std::string(route.method);
            continue;
        }
        if (encoded.data() == nullptr) return route.handle(control, {}, request.body);
        auto parameter = decode(encoded);
        if (!parameter)
            return refuse(
                {Code::bad_input, 0, "read path", request.target, "percent-encode the name: a/b is a%2Fb"});
        return route.handle(control, *parameter, request.body);
    }
    if (allow.empty())
        return refuse({Code::not_found, 0, "find endpoint", request.target, "docs/api.md lists them all"});
    ApiResponse response = error_response(
        405, {Code::bad_input, 0, request.method, request.target, "this path knows only " + allow});
    response.allow = allow;
    return response;
}

}  // namespace tierd
