// view_heat.h - prints access statistics: sources, the hottest rows, and heat maps as text and as SVG.
//
// Callers:   any thread; pure functions.
// Fails:     as view.h.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tierd {

std::string view_sources(const nlohmann::json& answer);
// The first `top` rows.
std::string view_hot(const nlohmann::json& answer, size_t top);

struct HeatmapStyle {
    bool colour = false;  // text: as the terminal's colours
    size_t width = 64;    // text: extents in a line
};
// A line for each layer: what is hot as a digit or a colour, what is in no memory in brackets' place.
std::string view_heatmap(const nlohmann::json& answer, const HeatmapStyle& style);
// Layers across, extents or experts down; colour is heat, the outline the tier.
std::string svg_heatmap(const nlohmann::json& answer);

}  // namespace tierd
