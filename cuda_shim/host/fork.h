// fork.h - handles our mappings at fork(), in the parent and in the child.
//
// Arenas are not inherited (MADV_DONTFORK): the child has no userfaultfd of its own, and absent pages would read as
// zeros. Only regions that the client may have written are inherited, for their private pages, for the moment of the
// fork itself.
//
// Callers:   pthread_atfork's handlers: on the forking thread, before and after.
// Fails:     never; a range that the child can't map faults there.
#pragma once

namespace tierd::shim {

void before_fork();
void after_fork_in_parent();
void after_fork_in_child();

}  // namespace tierd::shim
