#include "lib/replay/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace tierd {
namespace {

constexpr size_t kLines = 16;
constexpr size_t kColumn = 7;  // characters a place of the axis

// "&" and "<" of names that come from outside.
std::string xml(const std::string& text) {
    std::string out;
    for (char c : text) {
        bool harmless = c != '&' && c != '<' && c != '>' && c != '"' && static_cast<unsigned char>(c) >= 0x20;
        out += harmless ? std::string(1, c)
                        : fmt::format("&#{};", static_cast<unsigned char>(c) < 0x20 ? '?' : c + 0);
    }
    return out;
}

size_t line_of(double value) {
    return static_cast<size_t>(std::lround(std::clamp(value, 0.0, 1.0) * (kLines - 1)));
}

constexpr const char* kColours[] = {"#1965b0", "#dc050c", "#4eb265", "#f7a82b", "#882e72", "#777777"};
constexpr double kLeft = 60, kTop = 40, kWidth = 640, kHeight = 320;

double x_of(const Chart& chart, size_t place) {
    double steps = static_cast<double>(std::max<size_t>(chart.places.size(), 2) - 1);
    return kLeft + kWidth * static_cast<double>(place) / steps;
}

double y_of(double value) {
    return kTop + kHeight * (1 - std::clamp(value, 0.0, 1.0));
}

}  // namespace

std::string draw_text(const Chart& chart) {
    std::vector<std::string> lines(kLines, std::string(chart.places.size() * kColumn, ' '));
    for (const Curve& curve : chart.curves) {
        for (size_t place = 0; place < curve.values.size(); place++) {
            char& at = lines[line_of(curve.values[place])][place * kColumn + kColumn / 2];
            at = at == ' ' ? curve.name.front() : '*';
        }
    }
    std::string out = chart.title + "\n";
    for (size_t line = kLines; line-- > 0;)
        out += fmt::format("{:>5.2f} |{}\n", static_cast<double>(line) / (kLines - 1), lines[line]);
    out += fmt::format("      +{}\n       ", std::string(chart.places.size() * kColumn, '-'));
    for (const std::string& place : chart.places) out += fmt::format("{:^{}}", place, kColumn);
    out += fmt::format("  {}\n", chart.axis);
    for (const Curve& curve : chart.curves)
        out += fmt::format("       {} {}\n", curve.name.front(), curve.name);
    return out + "       * several\n";
}

std::string draw_svg(const Chart& chart) {
    std::string out = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 {}\" font-family=\"sans-serif\" "
        "font-size=\"13\">\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{}\" y=\"22\">{}</text>\n",
        kTop + kHeight + 60, kLeft, xml(chart.title));
    for (int tenth = 0; tenth <= 10; tenth += 2) {
        double y = y_of(tenth / 10.0);
        out += fmt::format(
            "<line x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\" stroke=\"#ddd\"/>"
            "<text x=\"{3}\" y=\"{4}\" text-anchor=\"end\">{5:.1f}</text>\n",
            kLeft, kLeft + kWidth, y, kLeft - 8, y + 4, tenth / 10.0);
    }
    for (size_t place = 0; place < chart.places.size(); place++)
        out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", x_of(chart, place),
                           kTop + kHeight + 20, xml(chart.places[place]));
    out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", kLeft + kWidth / 2,
                       kTop + kHeight + 42, xml(chart.axis));
    for (size_t i = 0; i < chart.curves.size(); i++) {
        const char* colour = kColours[i % std::size(kColours)];
        std::string points;
        for (size_t place = 0; place < chart.curves[i].values.size(); place++)
            points += fmt::format("{:.1f},{:.1f} ", x_of(chart, place), y_of(chart.curves[i].values[place]));
        out += fmt::format(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n"
            "<text x=\"{}\" y=\"{}\" fill=\"{}\">{}</text>\n",
            points, colour, kLeft + kWidth + 20, kTop + 14 + 20 * static_cast<double>(i), colour,
            xml(chart.curves[i].name));
    }
    return out + "</svg>\n";
}

}  // namespace tierd
