// chart.h - curves over a common axis, for terminals and as SVG.
//
// Callers:   any thread; pure. Every curve has as many points as there are places on the axis; values are 0 to 1.
#pragma once

#include <string>
#include <vector>

namespace tierd {

struct Curve {
    std::string name;
    std::vector<double> values;
};

struct Chart {
    std::string title;
    std::string axis;                 // what `places` are
    std::vector<std::string> places;  // ascending
    std::vector<Curve> curves;
};

// Letters mark the curves: the first of each name; where several fall on one place, '*'.
std::string draw_text(const Chart& chart);
std::string draw_svg(const Chart& chart);

}  // namespace tierd
