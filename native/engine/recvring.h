/*
 * recvring.h --
 *	The buffers of the io_uring engine's receives: a ring of its pool's, from which the kernel
 *	takes one when there is something to put into it. A connection that waits for data holds no
 *	memory but the request in the kernel.
 *
 *	From Linux 6.16 on, a receive takes several of them where more is known to lie there (a
 *	bundle). They are those that come next in the ring, so the buffers in there are linked in
 *	their order.
 *
 *	From Linux 6.17 on, a receive can go on after its first result (multishot) and have a limit.
 *	But a kernel without a certain repair (CVE-2026-23473: "io_uring/poll: fix multishot recv
 *	missing EOF on wakeup race", in 7.0 and the stable ones since March 2026) may wake it once
 *	for data and the reset that comes with it, and then for nothing any more.
 */

#ifndef IOCP_RECVRING_H
#define IOCP_RECVRING_H

#include "engine.h"
#include <liburing.h>

/* Belongs to the engine, and to its thread. */
typedef struct IocpRecvRing {
    struct io_uring_buf_ring *ringPtr;	/* NULL: there is none yet. */
    unsigned entries;
    int credit;			/* Buffers that were added since the kernel last had none. */
    IocpBuf *lastPtr;		/* That at the end of the ring, unless the kernel has used it. */
    IocpPool pool;
} IocpRecvRing;

/* Find out, once in the process, what the kernel's receives can. It takes a ring that is used for
 * nothing else, with a receive ring of two entries at least. */
void IocpRecvRingProbe(IocpRecvRing *recvRingPtr, struct io_uring *uringPtr);

/* Register it, without buffers: 0 or -errno. To be freed when the ring of requests is closed. */
int IocpRecvRingOpen(IocpRecvRing *recvRingPtr, struct io_uring *uringPtr, unsigned entries);
void IocpRecvRingFree(IocpRecvRing *recvRingPtr);

/* The kernel had no buffer for a receive: add some, unless that was done for another receive since
 * credit was last 0. 0: the pool has reached its limit. */
int IocpRecvRingGrow(IocpRecvRing *recvRingPtr, IocpEngineCounts *countsPtr);

/* A buffer is free again. */
void IocpRecvRingGive(IocpRecvRing *recvRingPtr, IocpBuf *bufPtr);

/* Let a receive take its buffers there. flags: the op's, IOCP_OPF_*. */
void IocpRecvRingPrep(struct io_uring_sqe *sqePtr, unsigned flags);

/* The chain of buffers into which the kernel has received size bytes, from that one on. */
IocpBuf *IocpRecvRingTake(IocpRecvRing *recvRingPtr, int poolId, int size);

#endif /* IOCP_RECVRING_H */
