/* Calls a function of the kernel that is not for policies. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
TIERD_HOOK(epoch)
{
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock();
	return 0;
}
