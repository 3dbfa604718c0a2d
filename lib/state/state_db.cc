// state_db.cc - StateDb over SQLite.
//
// The extents of an order are one blob of little-endian 32-bit indices; a disk's speeds are a line, "1:500000000
// 4:900000000". The journal is SQLite's rollback journal: there is one writer, and it leaves one file beside the
// database at most. The layout's version is in user_version; a file of another version is treated as a damaged one,
// for what it holds is learned again in one run of the model.
#include "lib/state/state_db.h"

#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <sstream>

namespace tierd {
namespace {

constexpr int kLayoutVersion = 1;
constexpr int kBusyMs = 2000;
constexpr const char* kMostFiles = "4096";
constexpr const char* kHint =
    "tierd continues without learned data; make the state directory writable and check the disk";

struct CloseDb {
    void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
};
struct FinishStatement {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Db = std::unique_ptr<sqlite3, CloseDb>;
using Statement = std::unique_ptr<sqlite3_stmt, FinishStatement>;

bool is_damage(int rc) {
    int primary = rc & 0xff;
    return primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB;
}

std::unexpected<Error> db_error(sqlite3* db, const std::string& operation, const std::string& path) {
    std::string why = db ? sqlite3_errmsg(db) : "no memory";
    int err = db ? sqlite3_system_errno(db) : ENOMEM;
    return std::unexpected(Error{Code::io, err, operation + " (" + why + ")", path, kHint});
}

int run(sqlite3* db, const std::string& sql) {
    return sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr);
}

int prepare(sqlite3* db, const char* sql, Statement& statement) {
    sqlite3_stmt* raw = nullptr;
    int rc = sqlite3_prepare_v2(db, sql, -1, &raw, nullptr);
    statement.reset(raw);
    return rc;
}

int bind_text(const Statement& statement, int place, const std::string& text) {
    return sqlite3_bind_text64(statement.get(), place, text.data(), text.size(), SQLITE_TRANSIENT,
                               SQLITE_UTF8);
}

std::string to_blob(const std::vector<uint32_t>& order) {
    std::string blob;
    blob.reserve(order.size() * 4);
    for (uint32_t index : order)
        for (int shift = 0; shift < 32; shift += 8) blob.push_back(static_cast<char>(index >> shift));
    return blob;
}

std::vector<uint32_t> from_blob(const unsigned char* bytes, size_t length_bytes) {
    std::vector<uint32_t> order(length_bytes / 4);
    for (size_t i = 0; i < order.size(); ++i)
        for (size_t byte = 0; byte < 4; ++byte) order[i] |= uint32_t{bytes[4 * i + byte]} << (8 * byte);
    return order;
}

// SQLITE_NOTADB where the file is of another version; SQLITE_CORRUPT where a page can't be right.
int check_layout(sqlite3* db) {
    Statement version;
    int rc = prepare(db, "PRAGMA user_version", version);
    if (rc != SQLITE_OK) return rc;
    rc = sqlite3_step(version.get());
    if (rc != SQLITE_ROW) return rc;
    int found = sqlite3_column_int(version.get(), 0);
    if (found != 0 && found != kLayoutVersion) return SQLITE_NOTADB;
    version.reset();
    Statement check;
    rc = prepare(db, "PRAGMA quick_check(1)", check);
    if (rc != SQLITE_OK) return rc;
    rc = sqlite3_step(check.get());
    if (rc != SQLITE_ROW) return rc;
    const unsigned char* verdict = sqlite3_column_text(check.get(), 0);
    return verdict && std::string(reinterpret_cast<const char*>(verdict)) == "ok" ? SQLITE_OK
                                                                                  : SQLITE_CORRUPT;
}

int make_layout(sqlite3* db) {
    return run(db,
               "BEGIN IMMEDIATE;"
               "CREATE TABLE IF NOT EXISTS touch_order (file_key TEXT PRIMARY KEY, layout INTEGER NOT NULL,"
               " recorded_ns INTEGER NOT NULL, extents BLOB NOT NULL);"
               "CREATE TABLE IF NOT EXISTS disk (disk_key TEXT PRIMARY KEY, measured_ns INTEGER NOT NULL,"
               " latency_ns INTEGER NOT NULL, speeds TEXT NOT NULL);"
               "PRAGMA user_version = " +
                   std::to_string(kLayoutVersion) + "; COMMIT");
}

// Opens the file and makes it ready. Leaves `db` set on failure too, for its message.
int open_once(const std::string& path, Db& db) {
    sqlite3* raw = nullptr;
    int rc = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
    db.reset(raw);
    if (rc != SQLITE_OK) return rc;
    sqlite3_busy_timeout(raw, kBusyMs);
    rc = check_layout(raw);
    if (rc != SQLITE_OK) return rc;
    // What is lost with the machine's power is learned again; a file that is whole is all that is asked.
    rc = run(raw, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = NORMAL");
    return rc == SQLITE_OK ? make_layout(raw) : rc;
}

// Renames the damaged file, so that it can be inspected and a new one can be made.
Result<void> put_aside(const std::string& path) {
    if (::rename(path.c_str(), (path + ".damaged").c_str()) != 0 && errno != ENOENT) {
        auto error = os_error("rename damaged state database", path, Code::io);
        error.error().hint = "remove the file";
        return error;
    }
    // A journal of the damaged file would be played into the new one.
    for (const char* suffix : {"-journal", "-wal", "-shm"}) ::unlink((path + suffix).c_str());
    return {};
}

class SqliteStateDb final : public StateDb {
  public:
    explicit SqliteStateDb(std::string path) : path_(std::move(path)) {}

    Result<void> begin();
    Result<TouchOrder> load_order(const std::string& file_key) override;
    Result<void> store_order(const std::string& file_key, const TouchOrder& order) override;
    Result<DiskFigures> load_disk(const std::string& disk_key) override;
    Result<void> store_disk(const std::string& disk_key, const DiskFigures& figures) override;

  private:
    Result<void> begin_anew();
    template <class Read>
    Result<void> load(const char* what, const std::string& key, const char* hint, Read read);
    template <class Write>
    Result<void> store(const char* what, Write write);
    int read(const std::string& file_key, TouchOrder& order);
    int write(const std::string& file_key, const TouchOrder& order);
    int read_disk(const std::string& disk_key, DiskFigures& figures);
    int write_disk(const std::string& disk_key, const DiskFigures& figures);

    std::string path_;
    Db db_;
};

Result<void> SqliteStateDb::begin() {
    int rc = open_once(path_, db_);
    if (is_damage(rc)) return begin_anew();
    if (rc != SQLITE_OK) return db_error(db_.get(), "open state database", path_);
    return {};
}

Result<void> SqliteStateDb::begin_anew() {
    db_.reset();
    auto aside = put_aside(path_);
    if (!aside) return aside;
    if (open_once(path_, db_) != SQLITE_OK) return db_error(db_.get(), "open new state database", path_);
    return {};
}

// SQLITE_ROW: found; SQLITE_DONE: not there; SQLITE_CORRUPT: what is there can't be right.
int SqliteStateDb::read(const std::string& file_key, TouchOrder& order) {
    Statement select;
    int rc =
        prepare(db_.get(), "SELECT layout, recorded_ns, extents FROM touch_order WHERE file_key = ?", select);
    if (rc == SQLITE_OK) rc = bind_text(select, 1, file_key);
    if (rc == SQLITE_OK) rc = sqlite3_step(select.get());
    if (rc != SQLITE_ROW) return rc;
    sqlite3_int64 layout = sqlite3_column_int64(select.get(), 0);
    const void* blob = sqlite3_column_blob(select.get(), 2);
    auto blob_bytes = static_cast<size_t>(sqlite3_column_bytes(select.get(), 2));
    if (layout <= 0 || blob_bytes % 4 != 0) return SQLITE_CORRUPT;
    if (!blob && sqlite3_errcode(db_.get()) == SQLITE_NOMEM) return SQLITE_NOMEM;
    order.layout = static_cast<uint64_t>(layout);
    order.recorded_ns = static_cast<uint64_t>(sqlite3_column_int64(select.get(), 1));
    order.order = from_blob(static_cast<const unsigned char*>(blob), blob_bytes);
    return SQLITE_ROW;
}

// `read` returns SQLITE_ROW if it found something. A damaged database is replaced by an empty one.
template <class Read>
Result<void> SqliteStateDb::load(const char* what, const std::string& key, const char* hint, Read read) {
    int rc = db_ ? read() : SQLITE_CORRUPT;
    if (rc == SQLITE_ROW) return {};
    if (is_damage(rc)) {
        if (auto anew = begin_anew(); !anew) return anew;
    } else if (rc != SQLITE_DONE) {
        return db_error(db_.get(), what, path_);
    }
    return fail(Code::not_found, what, key, hint);
}

template <class Write>
Result<void> SqliteStateDb::store(const char* what, Write write) {
    int rc = db_ ? write() : SQLITE_CORRUPT;
    if (is_damage(rc)) {
        if (auto anew = begin_anew(); !anew) return anew;
        rc = write();
    }
    if (rc != SQLITE_OK) return db_error(db_.get(), what, path_);
    return {};
}

Result<TouchOrder> SqliteStateDb::load_order(const std::string& file_key) {
    TouchOrder order;
    auto loaded = load("load touch order", file_key, "it is learned when the model runs",
                       [&] { return read(file_key, order); });
    if (!loaded) return std::unexpected(loaded.error());
    return order;
}

int SqliteStateDb::write(const std::string& file_key, const TouchOrder& order) {
    std::string blob = to_blob(order.order);
    Statement insert;
    // A replaced row gets a new number, so the lowest numbers are the longest unchanged.
    int rc = prepare(db_.get(), "INSERT OR REPLACE INTO touch_order VALUES (?, ?, ?, ?)", insert);
    if (rc == SQLITE_OK) rc = bind_text(insert, 1, file_key);
    if (rc == SQLITE_OK) rc = sqlite3_bind_int64(insert.get(), 2, static_cast<sqlite3_int64>(order.layout));
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(insert.get(), 3, static_cast<sqlite3_int64>(order.recorded_ns));
    if (rc == SQLITE_OK) rc = sqlite3_bind_blob64(insert.get(), 4, blob.data(), blob.size(), SQLITE_STATIC);
    if (rc == SQLITE_OK) rc = run(db_.get(), "BEGIN IMMEDIATE");
    if (rc != SQLITE_OK) return rc;
    rc = sqlite3_step(insert.get());
    insert.reset();
    if (rc == SQLITE_DONE)
        rc = run(db_.get(),
                 std::string("DELETE FROM touch_order WHERE rowid IN (SELECT rowid FROM touch_order ORDER BY "
                             "rowid DESC LIMIT -1 OFFSET ") +
                     kMostFiles + "); COMMIT");
    if (rc != SQLITE_OK && !sqlite3_get_autocommit(db_.get())) run(db_.get(), "ROLLBACK");
    return rc;
}

Result<void> SqliteStateDb::store_order(const std::string& file_key, const TouchOrder& order) {
    if (order.layout == 0 || order.layout > INT64_MAX || order.recorded_ns > INT64_MAX)
        return fail(Code::bad_input, "store touch order", file_key, "give the extent size and time in range");
    return store("store touch order", [&] { return write(file_key, order); });
}

int SqliteStateDb::read_disk(const std::string& disk_key, DiskFigures& figures) {
    Statement select;
    int rc =
        prepare(db_.get(), "SELECT measured_ns, latency_ns, speeds FROM disk WHERE disk_key = ?", select);
    if (rc == SQLITE_OK) rc = bind_text(select, 1, disk_key);
    if (rc == SQLITE_OK) rc = sqlite3_step(select.get());
    if (rc != SQLITE_ROW) return rc;
    figures.measured_ns = static_cast<uint64_t>(sqlite3_column_int64(select.get(), 0));
    figures.latency_ns = static_cast<uint64_t>(sqlite3_column_int64(select.get(), 1));
    const unsigned char* text = sqlite3_column_text(select.get(), 2);
    std::istringstream line(text != nullptr ? reinterpret_cast<const char*>(text) : "");
    char colon = 0;
    for (DiskSpeed speed; line >> speed.depth >> colon >> speed.bytes_per_s;) figures.speeds.push_back(speed);
    return figures.speeds.empty() || !line.eof() ? SQLITE_CORRUPT : SQLITE_ROW;
}

Result<DiskFigures> SqliteStateDb::load_disk(const std::string& disk_key) {
    DiskFigures figures;
    auto loaded = load("load disk", disk_key, "it is measured when a model lies on it",
                       [&] { return read_disk(disk_key, figures); });
    if (!loaded) return std::unexpected(loaded.error());
    return figures;
}

int SqliteStateDb::write_disk(const std::string& disk_key, const DiskFigures& figures) {
    std::string speeds;
    for (auto& [depth, bytes_per_s] : figures.speeds)
        speeds += (speeds.empty() ? "" : " ") + std::to_string(depth) + ":" + std::to_string(bytes_per_s);
    Statement insert;
    int rc = prepare(db_.get(), "INSERT OR REPLACE INTO disk VALUES (?, ?, ?, ?)", insert);
    if (rc == SQLITE_OK) rc = bind_text(insert, 1, disk_key);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(insert.get(), 2, static_cast<sqlite3_int64>(figures.measured_ns));
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(insert.get(), 3, static_cast<sqlite3_int64>(figures.latency_ns));
    if (rc == SQLITE_OK) rc = bind_text(insert, 4, speeds);
    if (rc != SQLITE_OK) return rc;
    rc = sqlite3_step(insert.get());
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

Result<void> SqliteStateDb::store_disk(const std::string& disk_key, const DiskFigures& figures) {
    return store("store disk", [&] { return write_disk(disk_key, figures); });
}

}  // namespace

Result<std::unique_ptr<StateDb>> StateDb::open(const std::string& path) {
    auto db = std::make_unique<SqliteStateDb>(path);
    auto begun = db->begin();
    if (!begun) return std::unexpected(begun.error());
    return db;
}

}  // namespace tierd
