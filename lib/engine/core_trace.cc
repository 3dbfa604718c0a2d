// Recording a trace: from the first question to the last.
#include "lib/engine/core.h"

namespace tierd {

namespace {

std::unexpected<Error> none_goes_on() {
    return fail(Code::not_found, "fetch the trace", {},
                "nothing is being recorded; one that nobody fetches from ends after 30 s");
}

}  // namespace

// What is open already comes first.
Result<TraceChunk> Core::start_trace() {
    if (observer_ && !observer_->abandoned())
        return fail(Code::busy, "record a trace", {}, "another recording goes on; end that one first");
    observer_ = std::make_unique<TraceRecorder>(view());
    for (auto& [number, file] : files_) observer_->model_opened(view(), as_policy_model(*file));
    return observer_->take(view());
}

Result<TraceChunk> Core::fetch_trace() {
    if (!observer_ || observer_->abandoned()) return none_goes_on();
    return observer_->take(view());
}

Result<TraceChunk> Core::stop_trace() {
    if (!observer_ || observer_->abandoned()) return none_goes_on();
    TraceChunk last = observer_->finish(view());
    observer_ = nullptr;
    return last;
}

}  // namespace tierd
