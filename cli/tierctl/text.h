// text.h - formats output for people: tables, shares, bars, and escaped names.
//
// Invariant: no byte of a name from outside can move the cursor, colour the terminal or change the direction of
//            writing.
// Callers:   any thread; pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tierd {

// `text` with control characters, invisible and direction-changing ones and bytes that are not UTF-8 as \x1b
// or \u{202e}.
std::string escape(const std::string& text);

// "75 %"; "-" where the whole is 0. Never rounded up to 100 %: that stands for all of it.
std::string percent(uint64_t part, uint64_t whole);

// "#######---": `width` characters.
std::string bar(uint64_t part, uint64_t whole, size_t width);

// "1 h 2 min", "3.5 s", "12.5 ms", "17 us": the coarsest that still says something.
std::string duration(uint64_t duration_ns);

// Columns aligned by their widest cell, two spaces apart. Cells are escaped here.
class Table {
  public:
    enum class Align : uint8_t { left, right };
    struct Column {
        std::string title;
        Align align = Align::left;
    };

    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
    void add(std::vector<std::string> cells);  // as many as there are columns
    std::string text() const;                  // the titles and each row as a line

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

}  // namespace tierd
