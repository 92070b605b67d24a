/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For crun of Debian 12 where root lacks CAP_SYS_RESOURCE: it fails if it cannot lift the limit of
 * locked memory, which BPF programs have not counted towards since Linux 5.11. Loaded into crun by
 * the benchmark, and only where crun does not run without.
 */
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	if (resource == RLIMIT_MEMLOCK)
		return 0;
	return (int)syscall(SYS_prlimit64, 0, resource, limit, 0);
}
