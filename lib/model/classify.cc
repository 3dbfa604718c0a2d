// classify.cc - what a tensor does in the model, read off its name.
//
// Owns:      the words of the naming habits.
// Invariant: the rules are tried from the most to the least specific; the first that fits decides.
// Callers:   any thread.   Never fails.
#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "lib/model/tensor_map.h"

namespace tierd {
namespace {

using Segments = std::vector<std::string_view>;  // a name between its dots, in lower case

Segments split(std::string_view name) {
    Segments segments;
    while (true) {
        size_t dot = name.find('.');
        segments.push_back(name.substr(0, dot));
        if (dot == std::string_view::npos) return segments;
        name.remove_prefix(dot + 1);
    }
}

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> words) {
    return std::ranges::find(words, text) != words.end();
}

bool any_is(const Segments& segments, std::initializer_list<std::string_view> words) {
    return std::ranges::any_of(segments, [&](std::string_view segment) { return is_one_of(segment, words); });
}

bool any_contains(const Segments& segments, std::initializer_list<std::string_view> parts) {
    return std::ranges::any_of(segments, [&](std::string_view segment) {
        return std::ranges::any_of(parts,
                                   [&](std::string_view part) { return segment.find(part) != segment.npos; });
    });
}

bool any_starts_with(const Segments& segments, std::initializer_list<std::string_view> heads) {
    return std::ranges::any_of(segments, [&](std::string_view segment) {
        return std::ranges::any_of(heads, [&](std::string_view head) { return segment.starts_with(head); });
    });
}

// A layer's or expert's number; nothing for text, and for 65535, which the extent table needs for "none".
std::optional<uint16_t> as_number(std::string_view text) {
    uint16_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value == UINT16_MAX) return std::nullopt;
    return value;
}

// The number right behind a segment that `leads` accepts.
template <class Leads>
std::optional<uint16_t> number_behind(const Segments& segments, Leads leads) {
    for (size_t i = 0; i + 1 < segments.size(); ++i) {
        if (!leads(segments[i])) continue;
        if (auto value = as_number(segments[i + 1])) return value;
    }
    return std::nullopt;
}

bool in_tower(const Segments& segments) {
    return is_one_of(segments.front(), {"v", "a", "mm"}) ||
           any_contains(segments, {"vision", "visual", "audio"});
}

uint16_t layer_of(const Segments& segments) {
    if (in_tower(segments)) return TIERD_NO_LAYER;
    auto layer = number_behind(segments, [](std::string_view segment) {
        return is_one_of(segment, {"blk", "layers", "layer", "h", "block", "blocks"});
    });
    return layer.value_or(TIERD_NO_LAYER);
}

// "experts.17.up_proj", the older GGUF spelling "ffn_up.17.weight", and a part of a stack: "weight[17]".
uint16_t expert_of(const Segments& segments) {
    std::string_view last = segments.back();
    size_t bracket = last.rfind('[');
    if (bracket != std::string_view::npos && last.ends_with(']')) {
        last = last.substr(bracket + 1, last.size() - bracket - 2);
        return as_number(last).value_or(TIERD_NO_EXPERT);
    }
    auto expert = number_behind(segments, [](std::string_view segment) {
        return segment.ends_with("experts") || segment == "expert" || segment.starts_with("ffn_");
    });
    return expert.value_or(TIERD_NO_EXPERT);
}

// A bare "gate" is the router only in a feed-forward block: elsewhere it gates attention.
bool is_router(const Segments& segments) {
    if (any_is(segments, {"router", "exp_probs_b", "shared_expert_gate"})) return true;
    if (any_starts_with(segments, {"ffn_gate_inp"})) return true;
    for (size_t i = 1; i < segments.size(); ++i) {
        if (segments[i] == "gate" && any_contains({segments[i - 1]}, {"mlp", "moe", "feed_forward", "ffn"}))
            return true;
    }
    return false;
}

bool is_expert(const Segments& segments) {
    return any_is(segments, {"experts", "expert"}) ||
           any_contains(segments, {"_exps", "_chexps", "_experts"}) ||
           number_behind(segments, [](std::string_view segment) { return segment.starts_with("ffn_"); });
}

bool is_attention(const Segments& segments) {
    return any_contains(segments, {"attn", "attention", "query_key_value"}) ||
           any_starts_with(segments, {"ssm_", "time_mix", "shortconv", "indexer"}) ||
           any_is(segments, {"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "wq", "wk", "wv", "wo",
                             "wqkv", "mixer", "mamba"});
}

bool is_feed_forward(const Segments& segments) {
    return any_contains(segments, {"ffn", "mlp", "feed_forward", "feedforward", "channel_mix", "gate_proj",
                                   "up_proj", "down_proj", "h_to_4h", "4h_to_h"}) ||
           any_is(segments, {"fc1", "fc2", "intermediate", "w1", "w2", "w3"});
}

uint8_t role_of(const Segments& segments, uint16_t layer) {
    if (any_contains(segments, {"norm"}) || any_starts_with(segments, {"ln_", "ln1", "ln2"}))
        return TIERD_ROLE_NORM;
    if (is_router(segments)) return TIERD_ROLE_ROUTER;
    if (any_contains(segments, {"shexp", "shared_expert"})) return TIERD_ROLE_FEED_FORWARD;
    if (is_expert(segments)) return TIERD_ROLE_EXPERT;
    if (is_attention(segments)) return TIERD_ROLE_ATTENTION;
    if (any_is(segments, {"lm_head", "embed_out"})) return TIERD_ROLE_HEAD;
    if (any_contains(segments, {"embd", "embed"}) || any_is(segments, {"wte", "wpe", "token_types"})) {
        return TIERD_ROLE_EMBEDDING;
    }
    if (is_feed_forward(segments)) return TIERD_ROLE_FEED_FORWARD;
    if (any_is(segments, {"cls", "classifier"})) return TIERD_ROLE_HEAD;
    // "output" on its own is the head; in a layer (BERT) it is the second half of the feed-forward block.
    if (any_is(segments, {"output"}))
        return layer == TIERD_NO_LAYER ? TIERD_ROLE_HEAD : TIERD_ROLE_FEED_FORWARD;
    return TIERD_ROLE_OTHER;
}

}  // namespace

void classify_tensor(Tensor& tensor) {
    std::string name = tensor.name;
    // By hand: std::tolower depends on the locale.
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    Segments segments = split(name);
    tensor.layer = layer_of(segments);
    tensor.role = role_of(segments, tensor.layer);
    tensor.expert = tensor.role == TIERD_ROLE_EXPERT ? expert_of(segments) : TIERD_NO_EXPERT;
}

}  // namespace tierd
