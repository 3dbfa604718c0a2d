# Everything of the daemon that a test can reach: configuration and control API. main.cc only joins them.

# Apart, because tierctl needs it too and nothing else of the daemon.
add_library(tierd_timed_stream STATIC timed_stream.cc)
target_link_libraries(tierd_timed_stream PUBLIC tierd_base Boost::headers)

add_library(tierd_daemon_parts STATIC config.cc log.cc api.cc api_routes.cc api_json.cc metrics.cc
  rights.cc)
target_link_libraries(tierd_daemon_parts
  PUBLIC tierd_base tierd_arena tierd_tier tierd_sample tierd_timed_stream nlohmann_json::nlohmann_json
  PRIVATE tierd_policy PkgConfig::TOMLPP)
