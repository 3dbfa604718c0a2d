// api_json.h - the JSON form of the engine's status: docs/openapi.json describes the same objects.
//
// Owns:      the names of the fields: those of lib/engine/status.h; "-1: none" there is null here.
// Invariant: dump() never fails, whatever bytes a name holds: invalid UTF-8 becomes U+FFFD.
// Callers:   any thread.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "lib/base/result.h"
#include "lib/engine/status.h"
#include "lib/sample/hot.h"

namespace tierd {

nlohmann::json to_json_value(const EngineStatus& status);
nlohmann::json to_json_value(const ModelStatus& model);
nlohmann::json to_json_value(const SessionStatus& session);
nlohmann::json to_json_value(const TierStatus& tier);
nlohmann::json to_json_value(const DiskStatus& disk);
nlohmann::json to_json_value(const FaultStageStatus& stage);
nlohmann::json to_json_value(const SlowFault& fault);
nlohmann::json to_json_value(const SourceStatus& source);
nlohmann::json to_json_value(const HotRow& row);
nlohmann::json to_json_value(const HeatmapStatus& heatmap);
nlohmann::json to_json_value(const ModelDetail& detail);
nlohmann::json to_json_value(const JobStatus& job);
nlohmann::json to_json_value(const PolicyStatus& policy);
nlohmann::json to_json_value(const TraceChunk& chunk);
nlohmann::json to_json_value(const Error& error);  // {"error": {"code", "message", "hint"}}

// Text of `value`, indented by two, with a line's end.
std::string dump(const nlohmann::json& value);

// `text` with U+FFFD in the place of what is not UTF-8.
std::string valid_utf8(const std::string& text);

}  // namespace tierd
