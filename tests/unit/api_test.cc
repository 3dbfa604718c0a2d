// The control API over a real unix socket, with an engine of the test's own: every endpoint, and everything
// that a careless or hostile client sends.
#define BOOST_TEST_MODULE api
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "daemon/api.h"
#include "daemon/api_json.h"
#include "daemon/timed_stream.h"
#include "lib/base/clock.h"
#include "tests/unit/fake_control.h"

using namespace tierd;
using nlohmann::json;

namespace {

struct Answer {
    int status = 0;
    std::string head;
    std::string body;
    json parsed() const { return json::parse(body); }
};

// A client that sends exactly the bytes it is given.
class RawClient {
  public:
    explicit RawClient(const std::string& path) : socket_(connect_unix(path, 5000).value()) {
        timeval limit{10, 0};  // a server that never answers fails the test instead of hanging it
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    }
    // False when the server ended the connection meanwhile.
    bool send(const std::string& bytes) {
        for (size_t sent = 0; sent < bytes.size();) {
            ssize_t n = ::send(socket_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
            if (n <= 0) return false;
            sent += n;
        }
        return true;
    }
    void end_sending() { ::shutdown(socket_.get(), SHUT_WR); }

    // One answer by its Content-Length. Status 0: the server closed without one.
    Answer receive() {
        size_t head_end;
        while ((head_end = read_.find("\r\n\r\n")) == std::string::npos)
            if (!more()) return {};
        Answer answer;
        answer.head = read_.substr(0, head_end + 2);
        answer.status = std::stoi(answer.head.substr(9, 3));
        size_t length_at = answer.head.find("Content-Length: ");
        BOOST_REQUIRE(length_at != std::string::npos);
        size_t length = std::stoul(answer.head.substr(length_at + 16));
        while (read_.size() < head_end + 4 + length) BOOST_REQUIRE(more());
        answer.body = read_.substr(head_end + 4, length);
        read_.erase(0, head_end + 4 + length);
        return answer;
    }
    // All that comes until the server ends the connection.
    std::string rest() {
        while (more()) {
        }
        return std::exchange(read_, {});
    }
    // Whether the server ended the connection without a byte more.
    bool closed() { return read_.empty() && !more() && ended_; }

  private:
    bool more() {
        char bytes[4096];
        ssize_t n = ::recv(socket_.get(), bytes, sizeof bytes, 0);
        ended_ = n == 0 || (n < 0 && errno == ECONNRESET);
        if (n > 0) read_.append(bytes, n);
        return n > 0;
    }
    Fd socket_;
    std::string read_;
    bool ended_ = false;
};

struct Served {
    TempFolder folder;
    FakeControl control;
    ApiConfig config;
    std::unique_ptr<ApiServer> server;

    Served() {
        config.socket = folder.file("run/control.sock");
        config.connections = 4;
    }
    void start() {
        auto started = ApiServer::start(control, config);
        BOOST_REQUIRE_MESSAGE(started.has_value(), (started ? "" : started.error().text()));
        server = std::move(*started);
    }
    Answer ask(const std::string& method, const std::string& target, const std::string& body = "") {
        if (!server) start();
        RawClient client(config.socket);
        BOOST_REQUIRE(client.send(method + " " + target +
                                  " HTTP/1.1\r\nHost: tierd\r\nConnection: close\r\n" +
                                  "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body));
        return client.receive();
    }
    Answer raw(const std::string& bytes) {
        if (!server) start();
        RawClient client(config.socket);
        client.send(bytes);
        client.end_sending();
        return client.receive();
    }
};

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

void check_error(const Answer& answer, int status, const std::string& code) {
    BOOST_TEST(answer.status == status, answer.body);
    json error = answer.parsed().at("error");
    BOOST_TEST(error.at("code") == code);
    BOOST_TEST(!error.at("message").get<std::string>().empty());
    BOOST_TEST(!error.at("hint").get<std::string>().empty());
}

}  // namespace

BOOST_AUTO_TEST_CASE(status_tells_the_engine_and_its_counters) {
    Served served;
    Answer answer = served.ask("GET", "/v1/status");
    BOOST_TEST(answer.status == 200);
    BOOST_TEST(contains(answer.head, "Content-Type: application/json"));
    json status = answer.parsed();
    BOOST_TEST(status["policy"] == "sweep");
    BOOST_TEST(status["budget_bytes"] == 8 * kGiB);
    BOOST_TEST(status["notes"][0] == "no hugetlb pages are reserved");
    BOOST_TEST(status["counters"]["faults_missing"] == 17);
}

BOOST_AUTO_TEST_CASE(models_sessions_and_tiers_are_lists) {
    Served served;
    json models = served.ask("GET", "/v1/models").parsed();
    BOOST_REQUIRE(models["models"].size() == 1u);
    BOOST_TEST(models["models"][0]["name"] == "gemma.gguf");
    BOOST_TEST(models["models"][0]["order_learned"] == true);
    json sessions = served.ask("GET", "/v1/sessions").parsed();
    BOOST_TEST(sessions["sessions"][0]["pid"] == 4242);
    BOOST_TEST(sessions["sessions"][0]["command"] == "llama-server");
    BOOST_TEST(served.ask("GET", "/v1/sources").parsed()["sources"][1]["used"] == true);
    BOOST_TEST(served.ask("PUT", "/v1/sources", R"({"paused": true})").parsed()["sources"].size() == 2u);
    for (const char* wrong : {"", "{}", R"({"paused": 1})", R"({"paused": true, "x": 1})", "[true]"})
        check_error(served.ask("PUT", "/v1/sources", wrong), 400, "bad_input");
    BOOST_TEST(served.ask("GET", "/v1/hot/expert").parsed()["rows"][0]["heat"] == 12.5);
    check_error(served.ask("GET", "/v1/hot/colour"), 400, "bad_input");
    BOOST_TEST(served.ask("GET", "/v1/models/gemma.gguf/heatmap").parsed()["extents"].size() == 3u);
    json tiers = served.ask("GET", "/v1/tiers").parsed();
    BOOST_TEST(tiers["tiers"][0]["capacity_bytes"] == 8 * kGiB);
    served.server.reset();
    served.control.known.clear();
    BOOST_TEST(served.ask("GET", "/v1/models").parsed()["models"] == json::array());
}

BOOST_AUTO_TEST_CASE(tensors_come_with_their_layers_and_none_is_null) {
    Served served;
    json detail = served.ask("GET", "/v1/models/gemma.gguf/tensors").parsed();
    BOOST_TEST(detail["model"]["name"] == "gemma.gguf");
    BOOST_TEST(detail["layers"][0]["layer"].is_null());
    BOOST_TEST(detail["layers"][2]["layer"] == 1);
    BOOST_TEST(detail["layers"][2]["touches"] == 4);
    BOOST_TEST(detail["tensors"][0]["expert"].is_null());
    BOOST_TEST(detail["tensors"][2]["expert"] == 3);
}

BOOST_AUTO_TEST_CASE(preload_is_accepted_with_a_job_to_follow) {
    Served served;
    Answer answer = served.ask("POST", "/v1/models/gemma.gguf/preload");
    BOOST_TEST(answer.status == 202);
    BOOST_TEST(contains(answer.head, "Location: /v1/jobs/5\r\n"), answer.head);
    BOOST_TEST(answer.parsed()["job"] == 5);
    json job = served.ask("GET", "/v1/jobs/5").parsed();
    BOOST_TEST(job["done_bytes"] == kGiB);
    BOOST_TEST(job["finished"] == false);
    check_error(served.ask("GET", "/v1/jobs/6"), 404, "not_found");
    for (const char* wrong : {"/v1/jobs/x", "/v1/jobs/-1", "/v1/jobs/5x", "/v1/jobs/99999999999999999999"})
        check_error(served.ask("GET", wrong), 400, "bad_input");
}

BOOST_AUTO_TEST_CASE(pin_unpin_and_evict_reach_the_engine) {
    Served served;
    BOOST_TEST(served.ask("POST", "/v1/models/gemma.gguf/pin").parsed()["name"] == "gemma.gguf");
    BOOST_TEST(served.ask("POST", "/v1/models/1/unpin").parsed()["name"] == "gemma.gguf");
    BOOST_TEST(served.ask("POST", "/v1/models/%2Fmodels%2fgemma.gguf/evict").parsed()["evicted_bytes"] ==
               3 * kGiB);
    std::vector<std::string> want = {"pin gemma.gguf", "unpin 1", "evict /models/gemma.gguf"};
    BOOST_TEST(served.control.calls() == want, boost::test_tools::per_element());
    served.server.reset();
    served.control.pins_too_large = true;
    check_error(served.ask("POST", "/v1/models/gemma.gguf/pin"), 409, "no_space");
}

BOOST_AUTO_TEST_CASE(the_budget_is_set_in_bytes_or_as_people_write_sizes) {
    Served served;
    BOOST_TEST(served.ask("PUT", "/v1/budget", R"({"bytes": 1073741824})").parsed()["budget_bytes"] == kGiB);
    BOOST_TEST(served.ask("PUT", "/v1/budget", R"({"bytes": "2GiB"})").parsed()["budget_bytes"] == 2 * kGiB);
    BOOST_TEST(served.ask("PUT", "/v1/budget", R"({"bytes": 1073741824.0})").parsed()["budget_bytes"] ==
               kGiB);
    check_error(served.ask("PUT", "/v1/budget", R"({"bytes": 1})"), 400, "bad_input");
}

BOOST_AUTO_TEST_CASE(a_budget_that_can_not_be_understood_changes_nothing) {
    Served served;
    for (const std::string& body :
         {std::string(), std::string("{"), std::string("[]"), std::string("17"), std::string("null"),
          std::string("{}"), std::string(R"({"bytes": -1})"), std::string(R"({"bytes": 1.5})"),
          std::string(R"({"bytes": true})"), std::string(R"({"bytes": "lots"})"),
          std::string(R"({"bytes": 1073741824, "more": 1})"),
          std::string(R"({"bytes": 99999999999999999999})"), std::string("{\"bytes\": \"\xff\"}"),
          std::string(60000, '['), "{\"bytes\":" + std::string(30000, '[') + std::string(30000, ']') + "}"})
        check_error(served.ask("PUT", "/v1/budget", body), 400, "bad_input");
    // A size that is written wrongly says what is wrong with it.
    for (auto [resource, body] : {std::pair("/v1/budget", R"({"bytes": "99999999PiB"})"),
                                  std::pair("/v1/tiers/dram0", R"({"capacity_bytes": "99999999PiB"})")}) {
        json error = served.ask("PUT", resource, body).parsed().at("error");
        BOOST_TEST(error.at("hint") == "it is larger than any machine");
    }
    BOOST_TEST(served.control.calls().empty());
}

BOOST_AUTO_TEST_CASE(metrics_are_in_the_form_that_prometheus_reads) {
    Served served;
    served.control.known[0].name = "a\"b\\c\nd\xff";
    Answer answer = served.ask("GET", "/metrics");
    BOOST_TEST(answer.status == 200);
    BOOST_TEST(contains(answer.head, "Content-Type: text/plain; version=0.0.4"));
    BOOST_TEST(contains(answer.body, "tierd_faults_total{kind=\"missing\"} 17\n"));
    BOOST_TEST(contains(answer.body, "tierd_slowest_fault_seconds 0.0125\n"));
    BOOST_TEST(contains(answer.body, "tierd_fall_backs_total{reason=\"changed\"} 2\n"));
    BOOST_TEST(contains(answer.body, "tierd_refusals_total{reason=\"not_in_group\"} 3\n"));
    BOOST_TEST(contains(answer.body, "tierd_policy_calls_total{hook="));
    BOOST_TEST(contains(answer.body, "tierd_tier_used_bytes{tier=\"dram0\",kind=\"dram\"} 3221225472\n"));
    BOOST_TEST(
        contains(answer.body, "tierd_model_sessions{file=\"1\",model=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"} 1\n"));
    // Every sample belongs to a metric whose type was told before it, and no metric is told twice.
    std::set<std::string> told;
    std::istringstream lines(answer.body);
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("# HELP ")) continue;
        if (line.starts_with("# TYPE ")) {
            BOOST_TEST(told.insert(line.substr(7, line.find(' ', 7) - 7)).second, line);
            continue;
        }
        BOOST_TEST(told.contains(line.substr(0, line.find_first_of("{ "))), line);
    }
    BOOST_TEST(told.size() > 20u);
}

BOOST_AUTO_TEST_CASE(an_unknown_model_is_not_found_and_the_hint_says_how_to_list) {
    Served served;
    for (const char* what : {"preload", "pin", "unpin", "evict"})
        check_error(served.ask("POST", std::string("/v1/models/none/") + what), 404, "not_found");
    Answer answer = served.ask("GET", "/v1/models/none/tensors");
    check_error(answer, 404, "not_found");
    BOOST_TEST(contains(answer.body, "/v1/models lists"));
}

BOOST_AUTO_TEST_CASE(an_unknown_path_is_404_and_a_wrong_method_405_with_the_right_ones) {
    Served served;
    for (const char* path : {"/", "/v1", "/v1/status/", "/v2/status", "/v1/models/a/b/c", "//v1/status", "*"})
        check_error(served.ask("GET", path), 404, "not_found");
    Answer answer = served.ask("POST", "/v1/status");
    check_error(answer, 405, "bad_input");
    BOOST_TEST(contains(answer.head, "Allow: GET\r\n"), answer.head);
    check_error(served.ask("GET", "/v1/budget"), 405, "bad_input");
    check_error(served.ask("BREW", "/v1/models/x/preload"), 405, "bad_input");
    BOOST_TEST(served.ask("GET", "/v1/status?pretty=1").status == 200);
}

BOOST_AUTO_TEST_CASE(an_answer_to_head_has_no_body_so_that_the_next_one_is_found) {
    Served served;
    served.start();
    RawClient client(served.config.socket);
    client.send("HEAD /v1/status HTTP/1.1\r\nHost: tierd\r\n\r\n");
    client.send("GET /v1/status HTTP/1.1\r\nHost: tierd\r\nConnection: close\r\n\r\n");
    const std::string all = client.rest();
    size_t first_end = all.find("\r\n\r\n");
    BOOST_REQUIRE(first_end != std::string::npos);
    BOOST_TEST(all.substr(first_end + 4, 15) == "HTTP/1.1 200 OK", all);
}

BOOST_AUTO_TEST_CASE(names_are_percent_decoded_and_broken_encodings_are_refused) {
    Served served;
    served.ask("POST", "/v1/models/a%20b%2F%C3%A9%ff/pin");
    BOOST_TEST(served.control.calls().at(0) == "pin a b/\xc3\xa9\xff");
    for (const char* name : {"%", "%4", "%zz", "%00", "a%00b", ""})
        check_error(served.ask("POST", std::string("/v1/models/") + name + "/pin"), 400, "bad_input");
    BOOST_TEST(served.control.calls().size() == 1u);
}

BOOST_AUTO_TEST_CASE(names_that_are_not_utf8_leave_the_answer_readable) {
    Served served;
    served.control.known[0].path = "/models/\xff\xc3\x28\xed\xa0\x80.gguf";
    served.control.attached[0].command = "a\x1b[31m\x80";
    BOOST_TEST(contains(served.ask("GET", "/v1/models").parsed()["models"][0]["path"].get<std::string>(),
                        "\xef\xbf\xbd"));
    BOOST_TEST(served.ask("GET", "/v1/sessions").parsed()["sessions"][0]["command"] ==
               "a\x1b[31m\xef\xbf\xbd");
    check_error(served.ask("POST", "/v1/models/%ff/pin"), 404, "not_found");
}

BOOST_AUTO_TEST_CASE(what_is_no_http_is_answered_with_400) {
    Served served;
    for (const std::string& bytes :
         {std::string("hello\r\n\r\n"), std::string("GET\r\n\r\n"),
          std::string("GET /v1/status HTTP/9.9\r\n\r\n"),
          std::string("GET /v1/status HTTP/1.1\r\nno colon\r\n\r\n"),
          std::string("\x16\x03\x01\x02\x00\x01\x00\x01", 8),
          std::string("GET /v1/\x01status HTTP/1.1\r\n\r\n"),
          std::string("PUT /v1/budget HTTP/1.1\r\nContent-Length: -5\r\n\r\n"),
          std::string("PUT /v1/budget HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
          std::string("PUT /v1/budget HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")})
        check_error(served.raw(bytes), 400, "bad_input");
    BOOST_TEST(served.control.calls().empty());
    BOOST_TEST(served.ask("GET", "/v1/status").status == 200);
}

BOOST_AUTO_TEST_CASE(a_request_that_is_cut_short_does_nothing) {
    Served served;
    for (const std::string& bytes :
         {std::string("GET /v1/sta"),
          std::string("PUT /v1/budget HTTP/1.1\r\nContent-Length: 100\r\n\r\n{\"bytes\""), std::string()})
        BOOST_TEST(served.raw(bytes).status == 0);
    BOOST_TEST(served.control.calls().empty());
    BOOST_TEST(served.ask("GET", "/v1/status").status == 200);
}

BOOST_AUTO_TEST_CASE(a_policy_comes_as_an_object_with_knobs_and_goes_again) {
    Served served;
    Answer loaded =
        served.ask("PUT", "/v1/policy", R"({"name":"fifo","object":"YWJjZA==","knobs":{"n":-4,"s":"x"}})");
    BOOST_TEST(loaded.status == 200);
    BOOST_TEST(loaded.parsed()["hooks"][0]["p99_ns"] == 900u);
    BOOST_TEST(served.ask("DELETE", "/v1/policy").status == 200);
    BOOST_TEST(served.control.calls() ==
                   (std::vector<std::string>{"load fifo of 4 bytes", "knob n=-4", "knob s=x", "unload"}),
               boost::test_tools::per_element());
    check_error(served.ask("PUT", "/v1/policy", R"({"name":"fifo","object":"YmFk"})"), 400, "bad_input");
    size_t asked = served.control.calls().size();
    for (const char* body :
         {"", "{}", R"({"name":"a","object":"%%%="})", R"({"name":"","object":"YQ=="})",
          R"({"name":"a","object":"YQ==","knobs":[1]})", R"({"name":"a","object":"YQ==","x":1})",
          R"({"name":"a","object":""})", R"({"name":"a","object":"YQ==","knobs":{"n":1.5}})"})
        check_error(served.ask("PUT", "/v1/policy", body), 400, "bad_input");
    BOOST_TEST(served.control.calls().size() == asked);
    std::string object = R"({"name":"a","object":")" + std::string(4 * kMiB, 'A') + "\"}";
    BOOST_TEST(served.ask("PUT", "/v1/policy", object).status == 200);
    check_error(served.ask("PUT", "/v1/policy", std::string(7 * kMiB, ' ')), 413, "bad_input");
}

BOOST_AUTO_TEST_CASE(a_body_over_the_limit_is_413_and_a_long_head_431) {
    Served served;
    std::string large = "{\"bytes\":" + std::string(64 * kKiB, ' ') + "8589934592}";
    check_error(served.ask("PUT", "/v1/budget", large), 413, "bad_input");
    check_error(served.raw("PUT /v1/budget HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n{"), 413,
                "bad_input");
    check_error(served.raw("PUT /v1/budget HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" +
                           std::string(0x20000, ' ') + "\r\n0\r\n\r\n"),
                413, "bad_input");
    check_error(served.raw("GET /" + std::string(20 * kKiB, 'a') + " HTTP/1.1\r\n\r\n"), 431, "bad_input");
    BOOST_TEST(served.control.calls().empty());
    // The longest path that Linux knows still fits, each byte encoded.
    std::string path;
    for (int i = 0; i < 4095; i++) path += "%41";
    check_error(served.ask("POST", "/v1/models/" + path + "/pin"), 404, "not_found");
}

BOOST_AUTO_TEST_CASE(one_connection_serves_many_requests_also_sent_at_once) {
    Served served;
    served.start();
    RawClient client(served.config.socket);
    std::string one = "GET /v1/tiers HTTP/1.1\r\nHost: x\r\n\r\n";
    for (int i = 0; i < 3; i++) {
        client.send(one);
        BOOST_TEST(client.receive().status == 200);
    }
    client.send(one + one + "GET /v1/none HTTP/1.1\r\nConnection: close\r\n\r\n");
    BOOST_TEST(client.receive().status == 200);
    BOOST_TEST(client.receive().status == 200);
    BOOST_TEST(client.receive().status == 404);
    BOOST_TEST(client.closed());
}

BOOST_AUTO_TEST_CASE(clients_that_send_nothing_do_not_keep_others_from_being_served) {
    Served served;
    served.config.idle_timeout_ms = 60'000;  // so that only the free place can explain the answer
    served.start();
    std::vector<RawClient> silent;
    for (uint32_t i = 0; i + 1 < served.config.connections; i++) silent.emplace_back(served.config.socket);
    for (int i = 0; i < 10; i++) BOOST_TEST(served.ask("GET", "/v1/status").status == 200);
}

BOOST_AUTO_TEST_CASE(when_all_places_are_taken_by_silent_clients_the_next_waits_until_they_time_out) {
    Served served;
    served.config.idle_timeout_ms = 200;
    served.start();
    std::vector<RawClient> silent;
    for (uint32_t i = 0; i < 3 * served.config.connections; i++) silent.emplace_back(served.config.socket);
    BOOST_TEST(served.ask("GET", "/v1/status").status == 200);
    for (RawClient& client : silent) BOOST_TEST(client.closed());
}

BOOST_AUTO_TEST_CASE(a_client_that_drips_its_request_is_told_408) {
    Served served;
    served.config.request_timeout_ms = 100;
    served.start();
    RawClient client(served.config.socket);
    std::atomic<bool> done = false;
    std::thread dripper([&] {
        client.send("GET /v1/status HTTP/1.1\r\nX: ");
        while (!done && client.send("a")) ::poll(nullptr, 0, 5);
    });
    Answer answer = client.receive();
    done = true;
    dripper.join();
    check_error(answer, 408, "bad_input");
    BOOST_TEST(served.ask("GET", "/v1/status").status == 200);
}

BOOST_AUTO_TEST_CASE(clients_that_do_not_read_their_answers_lose_their_connections_alone) {
    Served served;
    served.config.request_timeout_ms = 500;
    served.control.engine.notes = {std::string(kMiB, 'x')};  // more than a socket buffers
    served.start();
    std::vector<RawClient> deaf;
    for (uint32_t i = 0; i < 2 * served.config.connections; i++) {
        deaf.emplace_back(served.config.socket);
        deaf.back().send("GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    // Behind them in the queue: this comes through only when each of them has lost its place.
    BOOST_TEST(served.ask("GET", "/v1/tiers").status == 200);
}

BOOST_AUTO_TEST_CASE(a_long_answer_arrives_whole) {
    Served served;
    served.control.engine.notes = {std::string(4 * kMiB, 'x')};
    BOOST_TEST(served.ask("GET", "/v1/status").parsed()["notes"][0].get<std::string>().size() == 4 * kMiB);
}

BOOST_AUTO_TEST_CASE(an_exception_in_the_engine_is_a_500_and_not_the_end) {
    Served served;
    served.control.broken = true;
    check_error(served.ask("GET", "/v1/status"), 500, "kernel_refused");
    BOOST_TEST(served.ask("GET", "/v1/tiers").status == 200);
}

BOOST_AUTO_TEST_CASE(stopping_ends_waiting_connections_at_once_and_removes_the_socket) {
    Served served;
    served.config.idle_timeout_ms = 600'000;
    served.start();
    RawClient waiting(served.config.socket);
    BOOST_TEST(waiting.send("GET /v1/tiers HTTP/1.1\r\nHost: x\r\n\r\n"));
    BOOST_TEST(waiting.receive().status == 200);
    uint64_t began_ns = monotonic_ns();
    served.server.reset();
    BOOST_TEST(monotonic_ns() - began_ns < 10 * kNsPerSecond);
    BOOST_TEST(waiting.closed());
    BOOST_TEST(!std::filesystem::exists(served.config.socket));
}

BOOST_AUTO_TEST_CASE(the_socket_is_for_its_owner_or_for_one_group) {
    Served served;
    auto rights = [&] {
        struct stat info{};
        BOOST_REQUIRE(::stat(served.config.socket.c_str(), &info) == 0);
        return std::pair(info.st_mode & 0777, info.st_gid);
    };
    served.start();
    BOOST_TEST(rights().first == 0600u);
    served.server.reset();
    gid_t group = ::getuid() == 0 ? 12345 : ::getgid();  // only root may give it to a group that it is not in
    served.config.group = group;
    served.start();
    BOOST_TEST(rights().first == 0660u);
    BOOST_TEST(rights().second == group);
}

BOOST_AUTO_TEST_CASE(a_socket_left_by_a_dead_tierd_is_taken_over_and_that_of_a_living_one_is_not) {
    Served served;
    served.start();
    auto second = ApiServer::start(served.control, served.config);
    BOOST_REQUIRE(!second.has_value());
    BOOST_TEST((second.error().code == Code::busy), second.error().text());
    BOOST_TEST(served.ask("GET", "/v1/status").status == 200);

    std::string kept = served.folder.file("kept");
    std::filesystem::create_hard_link(served.config.socket, kept);
    served.server.reset();
    std::filesystem::rename(kept, served.config.socket);  // a socket file that nobody answers on
    BOOST_TEST(served.ask("GET", "/v1/status").status == 200);
}

BOOST_AUTO_TEST_CASE(a_path_that_can_not_be_a_socket_is_refused_and_left_alone) {
    Served served;
    served.config.socket = served.folder.file("file");
    std::ofstream(served.config.socket) << "precious";
    auto started = ApiServer::start(served.control, served.config);
    BOOST_REQUIRE(!started.has_value());
    BOOST_TEST((started.error().code == Code::bad_config));
    BOOST_TEST(std::filesystem::file_size(served.config.socket) == 8u);
    served.config.socket = "/" + std::string(200, 'a');
    BOOST_TEST(!ApiServer::start(served.control, served.config).has_value());
}

namespace {

// The schema that `schema` stands for: itself, or what its $ref names.
const json& resolve(const json& openapi, const json& schema) {
    if (!schema.contains("$ref")) return schema;
    return openapi.at(json::json_pointer(schema["$ref"].get<std::string>().substr(1)));
}

// Checks that `value` has exactly the members that the schema says, of the types it says. `filled`: the lists that had items
// so far; the first of each must have some, or there would be nothing to compare.
void check_form(const json& openapi, const json& named, const json& value, const std::string& where,
                std::set<std::string>& filled) {
    const json& schema = resolve(openapi, named);
    std::set<std::string> types;
    if (schema["type"].is_array())
        types = schema["type"].get<std::set<std::string>>();
    else
        types = {schema["type"].get<std::string>()};
    std::string type = value.is_object()         ? "object"
                       : value.is_array()        ? "array"
                       : value.is_string()       ? "string"
                       : value.is_boolean()      ? "boolean"
                       : value.is_null()         ? "null"
                       : value.is_number_float() ? "number"
                                                 : "integer";
    BOOST_TEST(types.contains(type), where << " is " << type);
    if (value.is_array()) {
        if (!value.empty()) filled.insert(where);
        BOOST_TEST(filled.contains(where), where << ": the test has nothing to compare");
        for (const json& item : value) check_form(openapi, schema.at("items"), item, where + "[]", filled);
    }
    if (!value.is_object()) return;
    std::set<std::string> documented, required, sent;
    for (auto& [key, unused] : schema.at("properties").items()) documented.insert(key);
    for (auto& key : schema.at("required")) required.insert(key.get<std::string>());
    for (auto& [key, member] : value.items()) {
        sent.insert(key);
        if (documented.contains(key))
            check_form(openapi, schema["properties"][key], member, where + "." + key, filled);
    }
    BOOST_TEST(sent == documented, where << boost::test_tools::per_element());
    BOOST_TEST(required == documented, where);
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_openapi_description_is_true) {
    Served served;
    json openapi = json::parse(std::ifstream(TIERD_SOURCE_DIR "/docs/openapi.json"));
    BOOST_TEST(openapi["openapi"].get<std::string>().starts_with("3.1"));
    std::set<std::string> described, served_routes;
    for (const ApiRoute& route : api_routes())
        served_routes.insert(std::string(route.method) + " " + std::string(route.path));
    for (auto& [path, methods] : openapi["paths"].items()) {
        for (auto& [method, operation] : methods.items()) {
            if (method == "parameters") continue;
            std::string upper = method;
            for (char& c : upper) c = static_cast<char>(std::toupper(c));
            described.insert(upper + " " + path);
            std::string target = path;
            bool tier = target.starts_with("/v1/tiers/");
            if (size_t at = target.find("{name}"); at != std::string::npos)
                target.replace(at, 6, tier ? "cxl2" : "gemma.gguf");
            if (size_t at = target.find("{by}"); at != std::string::npos) target.replace(at, 4, "layer");
            if (size_t at = target.find("{job}"); at != std::string::npos) target.replace(at, 5, "5");
            std::string body = path == "/v1/policy" ? R"({"name":"fifo","object":"aGk=","knobs":{"depth":4}})"
                                                    : R"({"bytes":"2GiB"})";
            if (!operation.contains("requestBody"))
                body.clear();
            else if (const json& form = operation["requestBody"]["content"]["application/json"];
                     form.contains("example"))
                body = form["example"].dump();
            Answer answer = served.ask(upper, target, body);
            const json& responses = operation.at("responses");
            BOOST_REQUIRE_MESSAGE(responses.contains(std::to_string(answer.status)),
                                  path << ": " << answer.status);
            const json& content = responses[std::to_string(answer.status)].at("content");
            if (!content.contains("application/json")) continue;
            std::set<std::string> filled;
            check_form(openapi, content["application/json"]["schema"], answer.parsed(), path, filled);
            Answer refused = served.ask("OPTIONS", target);
            check_form(openapi, responses.at("default").at("content").at("application/json").at("schema"),
                       refused.parsed(), path + " refused", filled);
        }
    }
    BOOST_TEST(described == served_routes, boost::test_tools::per_element());
}
