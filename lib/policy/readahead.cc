#include "lib/policy/readahead.h"

#include <algorithm>
#include <numeric>

namespace tierd {
namespace {

constexpr uint32_t kNowhere = UINT32_MAX;
constexpr uint32_t kFirstDepth = 4;          // of an order that is only the file's
constexpr uint32_t kFirstDepthLearned = 16;  // of one that an earlier run proved
constexpr uint32_t kSlack = 8;               // positions that threads of one reader may be out of step
constexpr uint32_t kMostSkipped = 2;   // absent extents that a reader may leave out and still be in order
constexpr uint32_t kMostWalked = 256;  // rows looked at to match one touch, and to extend one stream
constexpr uint32_t kStreamLife = 512;  // touches of the model after which a stream without any is forgotten
constexpr uint32_t kScoreWeight = 16;  // the score follows the last touches, about this many
constexpr uint32_t kLeastBytes = 64 << 10;  // smaller extents have no place in a pass
constexpr uint32_t kInOrder = 192;          // score from which an order learned on the way is worth keeping

// Steps from one position to another, forward around a pass of `length`.
uint32_t forward(uint32_t from, uint32_t to, uint32_t length) {
    return to >= from ? to - from : to + length - from;
}

bool absent(const PolicyView& view, ExtentId extent) {
    return extent < view.extents.size() && view.extents[extent].state == TIERD_EXTENT_ABSENT;
}

// The router chooses experts, and scraps between slices come with them: neither has a place in a pass.
bool has_place(const tierd_extent& row) {
    return row.expert == TIERD_NO_EXPERT && row.bytes >= kLeastBytes;
}

bool asked_for(const PolicyView& view, ExtentId extent) {
    uint8_t state = view.extents[extent].state;
    return state == TIERD_EXTENT_QUEUED || state == TIERD_EXTENT_FILLING;
}

}  // namespace

void ReadAhead::model_open(const PolicyView& view, const PolicyModel& model) {
    model_close(model.model);
    if (model.extent_count == 0 || model.first_extent >= view.extents.size()) return;
    Reader reader;
    reader.first_extent = model.first_extent;
    auto rows = std::min<uint64_t>(model.extent_count, view.extents.size() - model.first_extent);
    reader.position.assign(rows, kNowhere);
    for (uint64_t index = 0; index < rows; ++index)
        reader.has_place.push_back(has_place(view.extents[model.first_extent + index]));
    std::vector<uint32_t> order(model.order.begin(), model.order.end());
    if (order.empty()) {  // nothing is known: by the file
        order.resize(rows);
        std::iota(order.begin(), order.end(), 0u);
    }
    set_order(reader, order);
    reader.order_learned = model.order_learned;
    reader.depth = model.order_learned ? kFirstDepthLearned : kFirstDepth;
    if (!model.order_learned) reader.first_touch_rank.assign(rows, kNowhere);
    for (uint32_t index = 0; index < rows; ++index) {
        const tierd_extent& row = view.extents[model.first_extent + index];
        if (row.expert != TIERD_NO_EXPERT)
            reader.experts.emplace_back(uint32_t{row.layer} << 16 | row.expert, index);
    }
    std::ranges::sort(reader.experts);
    readers_.emplace(model.model, std::move(reader));
}

void ReadAhead::model_close(uint32_t model) {
    readers_.erase(model);
}

// Makes `front` the pass, without what is no extent or named twice, and puts the rest behind it.
void ReadAhead::set_order(Reader& reader, const std::vector<uint32_t>& front) {
    std::ranges::fill(reader.position, kNowhere);
    reader.order.clear();
    reader.order.reserve(reader.position.size());
    auto append = [&reader](uint32_t index) {
        bool wanted = index < reader.position.size() && reader.has_place[index];
        if (!wanted || reader.position[index] != kNowhere) return;
        reader.position[index] = static_cast<uint32_t>(reader.order.size());
        reader.order.push_back(index);
    };
    std::ranges::for_each(front, append);
    reader.known = static_cast<uint32_t>(reader.order.size());
    for (uint32_t index = 0; index < reader.position.size(); ++index) append(index);
}

ReadAhead::Reader* ReadAhead::find(const PolicyView& view, ExtentId extent) {
    auto found = readers_.find(view.extents[extent].model);
    if (found == readers_.end()) return nullptr;
    Reader& reader = found->second;
    bool inside = extent >= reader.first_extent && extent - reader.first_extent < reader.position.size();
    return inside ? &reader : nullptr;
}

void ReadAhead::touched(const PolicyView& view, ExtentId extent, Touch touch, bool was_ahead,
                        const ReadAheadLimits& limits, std::vector<ExtentId>& wanted) {
    Reader* reader = find(view, extent);
    if (!reader) return;
    ++reader->clock;
    uint32_t index = extent - reader->first_extent;
    ask_siblings(view, *reader, extent, limits.siblings, wanted);
    if (!reader->has_place[index]) return;
    learn(*reader, index);
    admit_to_pass(*reader, index);
    uint32_t position = reader->position[index];
    Stream* stream = continued_stream(view, *reader, position);
    // A first touch of a sibling that was read ahead gives no information about the order, nor does one of a resident
    // extent.
    if (touch == Touch::missing || (was_ahead && stream)) judge(*reader, stream != nullptr);
    if (stream) {
        advance(*reader, *stream, position);
    } else if (touch == Touch::missing || !was_ahead) {
        stream = &new_stream(*reader, position);
    }
    if (!stream || !limits.along_order || !trusted(*reader, *stream)) return;
    ask_again(view, *reader, *stream, false, wanted);
    extend(view, *reader, *stream, limits.capacity, wanted);
}

// One touch does not make a stream, unless an earlier run showed that this is the order.
bool ReadAhead::trusted(const Reader& reader, const Stream& stream) {
    if (stream.run > 0) return true;
    return reader.order_learned && (reader.score.samples < 8 || reader.score.in_order_256ths > 128);
}

void ReadAhead::wasted(uint32_t model) {
    auto found = readers_.find(model);
    if (found != readers_.end()) found->second.depth = std::max(found->second.depth / 2, 1u);
}

void ReadAhead::go_on(const PolicyView& view, uint32_t model, const ReadAheadLimits& limits,
                      std::vector<ExtentId>& wanted) {
    auto found = readers_.find(model);
    if (found == readers_.end() || !limits.along_order) return;
    Reader& reader = found->second;
    for (Stream& stream : reader.streams) {
        if (stream.used == 0 || reader.clock - stream.used > kStreamLife || !trusted(reader, stream))
            continue;
        ask_again(view, reader, stream, true, wanted);
        extend(view, reader, stream, limits.capacity, wanted);
    }
}

void ReadAhead::last_session(uint32_t model) {
    auto found = readers_.find(model);
    if (found != readers_.end()) found->second.streams = {};
}

ReadAhead::Score ReadAhead::score(uint32_t model) const {
    auto found = readers_.find(model);
    return found == readers_.end() ? Score{} : found->second.score;
}

// The first pass shows the real order; when the pass begins again, the second follows it.
void ReadAhead::learn(Reader& reader, uint32_t index) {
    if (reader.first_touch_rank.empty()) return;
    uint32_t rank = reader.first_touch_rank[index];
    auto seen = static_cast<uint32_t>(reader.first_touches.size());
    if (rank == kNowhere) {
        reader.first_touch_rank[index] = seen;
        reader.first_touches.push_back(index);
        return;
    }
    bool begins_again = rank < seen / 8 && seen >= reader.order.size() / 4 * 3;
    if (!begins_again) return;
    if (reader.score.in_order_256ths >= kInOrder) {
        set_order(reader, reader.first_touches);
        reader.streams.fill(Stream{});
        reader.order_learned = true;
    }
    reader.first_touches = {};
    reader.first_touch_rank = {};
}

// An extent that no pass was known to touch takes the first place behind those known.
void ReadAhead::admit_to_pass(Reader& reader, uint32_t index) {
    uint32_t position = reader.position[index];
    if (position < reader.known) return;
    uint32_t other = reader.order[reader.known];
    std::swap(reader.order[position], reader.order[reader.known]);
    reader.position[other] = position;
    reader.position[index] = reader.known++;
}

// The nearest stream that a touch at `position` continues; null when it continues none.
ReadAhead::Stream* ReadAhead::continued_stream(const PolicyView& view, Reader& reader, uint32_t position) {
    Stream* nearest = nullptr;
    uint32_t nearest_steps = kNowhere;
    for (Stream& stream : reader.streams) {
        if (stream.used == 0) continue;
        if (reader.clock - stream.used > kStreamLife) {
            stream = Stream{};
            continue;
        }
        uint32_t ahead = forward(stream.last, position, reader.known);
        uint32_t behind = forward(position, stream.last, reader.known);
        uint32_t steps = std::min(ahead, behind);
        if (steps >= nearest_steps || !continues(view, reader, stream, position)) continue;
        nearest = &stream;
        nearest_steps = steps;
    }
    return nearest;
}

bool ReadAhead::continues(const PolicyView& view, const Reader& reader, const Stream& stream,
                          uint32_t position) {
    if (forward(position, stream.last, reader.known) <= kSlack && stream.run > 0) return true;
    if (std::ranges::find(stream.asked, position) != stream.asked.end()) return true;
    uint32_t steps = forward(stream.last, position, reader.known);
    if (steps > kMostWalked) return false;
    uint32_t skipped = 0;
    for (uint32_t step = 1; step < steps; ++step) {
        uint32_t between = (stream.last + step) % reader.known;
        skipped += absent(view, reader.first_extent + reader.order[between]) ? 1 : 0;
        if (skipped > kMostSkipped) return false;
    }
    return true;
}

ReadAhead::Stream& ReadAhead::new_stream(Reader& reader, uint32_t position) {
    // A free slot has used = 0 and so is the longest unused.
    Stream& stream = *std::ranges::min_element(reader.streams, {}, &Stream::used);
    stream = Stream{};
    stream.last = position;
    stream.next = (position + 1) % reader.known;
    stream.used = reader.clock;
    return stream;
}

void ReadAhead::advance(Reader& reader, Stream& stream, uint32_t position) {
    uint32_t length = reader.known;
    stream.used = reader.clock;
    ++stream.run;
    std::erase(stream.asked, position);
    if (forward(position, stream.last, length) <= kSlack) return;
    bool beyond = forward(stream.last, position, length) >= forward(stream.last, stream.next, length);
    stream.last = position;
    if (beyond) stream.next = (position + 1) % length;
    std::erase_if(stream.asked, [&](uint32_t asked) {
        uint32_t behind = forward(asked, position, length);
        return behind > kSlack && behind < length / 2;
    });
}

void ReadAhead::judge(Reader& reader, bool in_order) {
    // The first few count fully, so that the score means something after them.
    reader.score.samples = std::min(reader.score.samples + 1, 1u << 20);
    uint32_t weight = std::min(reader.score.samples, kScoreWeight);
    uint32_t judged = in_order ? 256 : 0;
    // In order and foreseen: it pays. In order and missed: it comes too late.
    if (in_order) reader.depth = std::min(reader.depth + 1, kMaxReadAhead);
    reader.score.in_order_256ths =
        (reader.score.in_order_256ths * (weight - 1) + judged + weight / 2) / weight;
}

void ReadAhead::extend(const PolicyView& view, Reader& reader, Stream& stream, uint32_t capacity,
                       std::vector<ExtentId>& wanted) {
    // What is mapped gives no sign of being touched.
    std::erase_if(stream.asked, [&](uint32_t position) {
        return view.extents[reader.first_extent + reader.order[position]].flags & TIERD_EXTENT_MAPPED;
    });
    uint32_t elsewhere = 0;
    for (const Stream& other : reader.streams)
        if (&other != &stream) elsewhere += static_cast<uint32_t>(other.asked.size());
    uint32_t most = std::max(1u, std::min(reader.depth, capacity > elsewhere ? capacity - elsewhere : 0));
    uint32_t walked = 0;
    while (stream.asked.size() < most && wanted.size() < kMaxReadAhead && walked++ < kMostWalked) {
        uint32_t position = stream.next;
        if (forward(stream.last, position, reader.known) + 1 >= reader.known) return;  // once around
        stream.next = (position + 1) % reader.known;
        ExtentId extent = reader.first_extent + reader.order[position];
        if (absent(view, extent)) wanted.push_back(extent);
        if (absent(view, extent) || asked_for(view, extent)) stream.asked.push_back(position);
    }
}

// Requests are executed in order, and dropped without notice when memory is short. A request that a later one overtook
// was dropped; so were all if none is in flight and the pass has `stalled`. A second request would read an extent again
// after it was touched and evicted.
void ReadAhead::ask_again(const PolicyView& view, const Reader& reader, const Stream& stream, bool stalled,
                          std::vector<ExtentId>& wanted) {
    auto extent_at = [&](uint32_t position) { return reader.first_extent + reader.order[position]; };
    auto is_absent = [&](uint32_t position) { return absent(view, extent_at(position)); };
    bool any_under_way = std::ranges::any_of(
        stream.asked, [&](uint32_t position) { return asked_for(view, extent_at(position)); });
    auto forgotten_end = stream.asked.end();
    if (!stalled || any_under_way)
        while (forgotten_end != stream.asked.begin() && is_absent(*std::prev(forgotten_end))) --forgotten_end;
    for (auto it = stream.asked.begin(); it != forgotten_end && wanted.size() < kMaxReadAhead; ++it)
        if (is_absent(*it)) wanted.push_back(extent_at(*it));
}

void ReadAhead::ask_siblings(const PolicyView& view, const Reader& reader, ExtentId extent, uint32_t most,
                             std::vector<ExtentId>& wanted) {
    const tierd_extent& row = view.extents[extent];
    if (row.expert == TIERD_NO_EXPERT) return;
    uint32_t key = uint32_t{row.layer} << 16 | row.expert;
    auto begin = std::ranges::lower_bound(reader.experts, std::pair{key, 0u});
    auto end = std::ranges::upper_bound(reader.experts, std::pair{key, kNowhere});
    auto self = std::ranges::lower_bound(begin, end, std::pair{key, extent - reader.first_extent});
    uint32_t asked = 0;
    auto ask = [&](auto from, auto to) {
        uint32_t walked = 0;
        for (auto it = from; it != to && asked < most && wanted.size() < kMaxReadAhead; ++it) {
            if (walked++ >= kMostWalked) return;
            ExtentId sibling = reader.first_extent + it->second;
            if (sibling == extent || !absent(view, sibling)) continue;
            wanted.push_back(sibling);
            ++asked;
        }
    };
    ask(self, end);  // what lies behind the touched one in the file is read first
    ask(begin, self);
}

}  // namespace tierd
