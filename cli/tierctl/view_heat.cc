#include "cli/tierctl/view_heat.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "cli/tierctl/text.h"
#include "lib/base/bytes.h"

namespace tierd {
namespace {

using nlohmann::json;

constexpr auto kRight = Table::Align::right;
constexpr int kSteps = 10;  // of heat

std::string text(const json& row, const char* key) {
    return row.at(key).get<std::string>();
}
std::string number_or_dash(const json& row, const char* key) {
    return row.at(key).is_null() ? "-" : std::to_string(row.at(key).get<uint64_t>());
}

// One cell of the map: extents that have a place in the grid.
struct Cell {
    double heat = 0;
    uint32_t tier = 0;
    bool resident = false;
    std::string what;
};
// By layer, -1 first.
using Columns = std::map<int, std::vector<Cell>>;

Columns columns_of(const json& answer, double& hottest) {
    Columns columns;
    uint64_t index = 0;
    for (const json& extent : answer.at("extents")) {
        int layer = extent.at("layer").is_null() ? -1 : extent.at("layer").get<int>();
        Cell cell;
        cell.heat = extent.at("heat").get<double>();
        cell.tier = extent.at("tier").get<uint32_t>();
        cell.resident = extent.at("resident").get<bool>();
        cell.what =
            fmt::format("extent {}, {}, layer {}, expert {}: heat {:.2f} from {} observations, {}", index++,
                        text(extent, "role"), number_or_dash(extent, "layer"),
                        number_or_dash(extent, "expert"), cell.heat, extent.at("samples").get<uint64_t>(),
                        cell.resident ? fmt::format("tier {}", cell.tier) : "not in memory");
        hottest = std::max(hottest, cell.heat);
        columns[layer].push_back(std::move(cell));
    }
    return columns;
}

// 0 for what is not touched, then by the logarithm: heats of one model often lie a thousandfold apart.
int step_of(double heat, double hottest) {
    if (heat <= 0 || hottest <= 0) return 0;
    double below = std::log2(hottest / heat);
    return std::clamp(static_cast<int>(kSteps - 1 - below), 1, kSteps - 1);
}

// From dark blue to yellow-white.
struct Rgb {
    int red, green, blue;
};
Rgb colour_of(int step) {
    constexpr Rgb kColours[kSteps] = {{16, 18, 40},   {36, 22, 74},  {74, 20, 98},  {112, 27, 104},
                                      {152, 38, 95},  {190, 55, 79}, {222, 82, 56}, {243, 120, 25},
                                      {251, 165, 10}, {246, 215, 70}};
    return kColours[step];
}

std::string cell_text(const Cell& cell, double hottest, bool colour) {
    int step = step_of(cell.heat, hottest);
    if (!colour)
        return cell.resident ? std::to_string(step)
                             : (step == 0 ? "." : fmt::format("{}", "abcdefghij"[step]));
    Rgb c = colour_of(step);
    return fmt::format("\x1b[48;2;{};{};{}m{}\x1b[0m", c.red, c.green, c.blue,
                       cell.resident ? " " : "\u00b7");
}

const char* outline_of(const Cell& cell) {
    constexpr const char* kTiers[] = {"#888888", "#2a9d8f", "#e9c46a", "#e76f51"};
    return cell.resident ? kTiers[std::min<uint32_t>(cell.tier, 3)] : "#888888";
}

}  // namespace

std::string view_sources(const json& answer) {
    Table table({{"SOURCE"},
                 {"USED"},
                 {"EVENT"},
                 {"RECORDS", kRight},
                 {"LOST", kRight},
                 {"COST", kRight},
                 {"WAITS", kRight},
                 {"WHY NOT"}});
    for (const json& s : answer.at("sources")) {
        bool used = s.at("used").get<bool>();
        table.add({text(s, "name"), used ? "yes" : "no", text(s, "event"),
                   used ? std::to_string(s.at("records").get<uint64_t>()) : "",
                   used ? std::to_string(s.at("lost").get<uint64_t>()) : "",
                   used ? fmt::format("{:.2f} %", 100 * s.at("cost_share").get<double>()) : "",
                   used ? fmt::format("{:.2f} %", 100 * s.at("wait_share").get<double>()) : "",
                   text(s, "unavailable_reason")});
    }
    return table.text();
}

std::string view_hot(const json& answer, size_t top) {
    Table table({{"HEAT", kRight},
                 {"SAMPLES", kRight},
                 {"MODEL"},
                 {"LAYER", kRight},
                 {"EXPERT", kRight},
                 {"SIZE", kRight},
                 {"NODE", kRight},
                 {"NAME"}});
    size_t shown = 0;
    for (const json& row : answer.at("rows")) {
        if (shown++ == top) break;
        auto bytes = row.at("bytes").get<uint64_t>();
        table.add({fmt::format("{:.2f}", row.at("heat").get<double>()),
                   std::to_string(row.at("samples").get<uint64_t>()), text(row, "model"),
                   number_or_dash(row, "layer"), number_or_dash(row, "expert"),
                   bytes > 0 ? format_bytes(bytes) : "-", number_or_dash(row, "node"), text(row, "name")});
    }
    if (shown == 0) return "no access was sampled yet: see `tierctl sources`\n";
    return table.text();
}

std::string view_heatmap(const json& answer, const HeatmapStyle& style) {
    double hottest = 0;
    Columns columns = columns_of(answer, hottest);
    std::string out = fmt::format("{}: hottest {:.2f}; each step is half of the one above",
                                  escape(text(answer.at("model"), "name")), hottest);
    out += style.colour ? "; a dot: not in memory\n"
                        : "; 9 is the hottest, 0 is not touched, letters and dots are not in memory\n";
    for (auto& [layer, cells] : columns) {
        std::string name = layer < 0 ? "-" : std::to_string(layer);
        for (size_t begin = 0; begin < cells.size(); begin += style.width) {
            out += fmt::format("{:>5} ", begin == 0 ? name : "");
            for (size_t i = begin; i < std::min(cells.size(), begin + style.width); i++)
                out += cell_text(cells[i], hottest, style.colour);
            out += "\n";
        }
    }
    return out;
}

std::string svg_heatmap(const json& answer) {
    constexpr size_t kCell = 10, kMargin = 30;
    double hottest = 0;
    Columns columns = columns_of(answer, hottest);
    size_t rows = 0;
    for (auto& [layer, cells] : columns) rows = std::max(rows, cells.size());
    std::string out = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" "
        "font-size=\"7\">\n",
        2 * kMargin + columns.size() * kCell, 2 * kMargin + rows * kCell);
    size_t x = kMargin;
    for (auto& [layer, cells] : columns) {
        out += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n", x, kMargin - 4,
                           layer < 0 ? "-" : std::to_string(layer));
        size_t y = kMargin;
        for (const Cell& cell : cells) {
            Rgb c = colour_of(step_of(cell.heat, hottest));
            // Nothing in it comes from outside: roles and numbers only.
            out += fmt::format(
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"#{:02x}{:02x}{:02x}\" "
                "stroke=\"{}\"{}><title>{}</title></rect>\n",
                x + 1, y + 1, kCell - 2, kCell - 2, c.red, c.green, c.blue, outline_of(cell),
                cell.resident ? "" : " stroke-dasharray=\"1\"", cell.what);
            y += kCell;
        }
        x += kCell;
    }
    return out + "</svg>\n";
}

}  // namespace tierd
