#include "lib/engine/heat_snapshot.h"

#include <sys/stat.h>

#include <iterator>

namespace tierd {

Result<std::vector<HotRow>> hot_rows(const HeatSnapshot& snapshot, const std::string& by) {
    auto kind = hot_by(by);
    if (!kind)
        return fail(Code::bad_input, "show what is hot by", by,
                    "by tensor, layer, expert, extent, function or thread");
    std::vector<HotRow> rows;
    if (*kind == HotBy::function || *kind == HotBy::thread) {
        rows = snapshot.readers.rows(*kind);
    } else {
        for (const HeatSnapshot::File& one : snapshot.files) {
            std::vector<ExtentHeat> heat;
            heat.reserve(one.extents.size());
            for (size_t i = 0; i < one.extents.size(); i++)
                heat.push_back({one.extents[i].heat / 65536.0, one.extents[i].samples, one.reader_nodes[i]});
            auto of_file = hot_rows(one.file->name, one.file->layout, one.file->map, heat, *kind);
            rows.insert(rows.end(), std::make_move_iterator(of_file.begin()),
                        std::make_move_iterator(of_file.end()));
        }
        sort_hot(rows);
    }
    if (rows.size() > kMostHotRows) rows.resize(kMostHotRows);
    return rows;
}

}  // namespace tierd
