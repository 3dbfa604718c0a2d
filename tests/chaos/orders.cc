#include "tests/chaos/orders.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>

#include "lib/base/base64.h"

namespace tierd::chaos {
namespace {

using itest::Json;

// The ones that ship, and then the ones that break a rule each.
constexpr const char* kPolicies[] = {"policies/fifo",
                                     "policies/lru",
                                     "policies/sweep",
                                     "policies/experts",
                                     "policies/hotness",
                                     "policies/admission",
                                     "policies/fair",
                                     "policies/rules",
                                     "tests/policies/liar",
                                     "tests/policies/nonsense",
                                     "tests/policies/faulty",
                                     "tests/policies/many_moves",
                                     "tests/policies/all_hooks",
                                     "tests/policies/admits_none",
                                     "tests/policies/holds_front",
                                     "tests/policies/refuses_init",
                                     "tests/policies/no_null_check",
                                     "tests/policies/endless",
                                     "tests/policies/huge_map"};

class Administrator {
  public:
    Administrator(const itest::Daemon& daemon, Tally& tally, Dice& dice, uint64_t& ejections)
        : daemon_(daemon), tally_(tally), dice_(dice), ejections_(ejections) {}

    void order() {
        switch (dice_() % 9) {
            case 0:
                return budget();
            case 1:
                return policy();
            case 2:
                return look();
            case 3:
                return tier();
            default:
                return model();
        }
    }

  private:
    itest::Daemon::Reply ask(const std::string& method, const std::string& what,
                             const std::string& body = {}) {
        auto reply = daemon_.ask(method, what, body);
        tally_.orders++;
        if (reply.status >= 500 && reply.status != 503)
            tally_.fail(fmt::format("{} {}: {} {}", method, what, reply.status, reply.body.dump()));
        return reply;
    }

    void budget() {
        ask("PUT", "/v1/budget",
            Json{{"bytes", between(dice_, 16, Keeper::kMostBudgetBytes >> 20) << 20}}.dump());
    }

    void policy() {
        if (dice_() % 5 == 0) {
            ask("DELETE", "/v1/policy");
            return;
        }
        const std::string name = kPolicies[dice_() % std::size(kPolicies)];
        std::ifstream file(itest::build_dir() + "/" + name + ".bpf.o", std::ios::binary);
        const std::string object{std::istreambuf_iterator<char>(file), {}};
        auto reply =
            ask("PUT", "/v1/policy",
                Json{{"name", name.substr(name.rfind('/') + 1)}, {"object", to_base64(object)}}.dump());
        (reply.status == 200 ? tally_.policies_loaded : tally_.policies_refused)++;
    }

    void look() {
        for (const char* what : {"/v1/status", "/v1/sessions", "/v1/tiers", "/v1/faults", "/v1/hot/extent"})
            ask("GET", what);
        const Json now = ask("GET", "/v1/policy").body;
        const uint64_t ejections = now.at("ejections");
        tally_.policies_ejected += ejections - ejections_;
        ejections_ = ejections;
    }

    void tier() {
        switch (dice_() % 4) {
            case 0:
                ask("PUT", "/v1/tiers/slow",
                    Json{{"capacity_bytes", Keeper::kTierBytes / between(dice_, 1, 4)}}.dump());
                return;
            case 1:
                ask("POST", "/v1/tiers/slow/drain");
                return;
            case 2:
                ask("DELETE", "/v1/tiers/slow");
                return;
            default:
                ask("POST", "/v1/tiers",
                    Json{{"name", "slow"}, {"kind", "cxl"}, {"capacity_bytes", Keeper::kTierBytes}}.dump());
        }
    }

    void model() {
        const std::string name = "/v1/models/model-" + std::to_string(dice_() % 5) + ".weights";
        constexpr const char* kVerbs[] = {"/preload", "/pin", "/unpin", "/unpin", "/evict", "/evict"};
        ask("POST", name + kVerbs[dice_() % std::size(kVerbs)]);
    }

    const itest::Daemon& daemon_;
    Tally& tally_;
    Dice& dice_;
    uint64_t& ejections_;  // of this daemon, that were seen
};

}  // namespace

void keep_ordering(const Keeper& keeper, Library& library, Tally& tally, const std::atomic<bool>& end,
                   uint64_t seed) {
    Dice dice(seed);
    std::shared_ptr<itest::Daemon> last;
    uint64_t ejections = 0;
    while (!end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(between(dice, 5, 400)));
        if (dice() % 3 == 0) library.disturb(dice);
        auto daemon = keeper.daemon();
        if (!daemon) continue;
        if (daemon != std::exchange(last, daemon)) ejections = 0;
        try {
            Administrator(*daemon, tally, dice, ejections).order();
        } catch (const std::exception&) {
            // It was killed or stopped meanwhile: an administrator asks again.
        }
    }
}

}  // namespace tierd::chaos
