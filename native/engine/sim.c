/*
 * sim.c --
 *	The engine of the tests (-Dtesting=true): another engine with bad luck.
 *
 *	It hands everything to the engine that is always there (SIM_INNER) and adds, from a seeded
 *	generator, what is rare in life: ops that find the engine busy, short sends and receives,
 *	interrupted calls, exhausted memory and descriptors, peers that vanish before they are
 *	accepted, completions that come late, receives that go on where they may.
 *	The same seed and the same ops give the same luck. TCLCHAN_SIM_SEED chooses the seed
 *	(default 1).
 *
 *	Nothing that it does may be visible to a script, but for the time that it takes.
 */

#include "engine.h"

#ifdef _WIN32
#   define SIM_INNER iocpWinEngine
#else
#   define SIM_INNER iocpEpollEngine
#endif

#define SIM_HELD 1024		/* Late completions at most. */
#define SIM_SPLIT_MIN 1024	/* No kernel splits less. */

typedef struct SimEngine {
    IocpEngine base;
    IocpEngine *innerPtr;
    uint64_t random;
    int heldCount;
    struct {
	IocpCompletion completion;
	int reaps;		/* So many reaps later. */
    } held[SIM_HELD];
} SimEngine;

/*
 * SimChance --
 *	1 in so many times. (Xorshift64*: small, and the same everywhere.)
 */
static int
SimChance(SimEngine *simPtr, unsigned inSoMany)
{
    simPtr->random ^= simPtr->random >> 12;
    simPtr->random ^= simPtr->random << 25;
    simPtr->random ^= simPtr->random >> 27;
    return (simPtr->random * 0x2545F4914F6CDD1Du >> 33) % inSoMany == 0;
}

static int
SimProbe(char *reason, size_t size)
{
    return SIM_INNER.probeProc(reason, size);
}

static int
SimOpen(IocpEngine **enginePtrPtr)
{
    const char *seed = getenv("TCLCHAN_SIM_SEED");
    SimEngine *simPtr = calloc(1, sizeof(SimEngine));
    int result = simPtr == NULL ? -ENOMEM : SIM_INNER.openProc(&simPtr->innerPtr);

    if (result < 0) {
	free(simPtr);
	return result;
    }
    simPtr->base.typePtr = &iocpSimEngine;
    simPtr->random = (seed == NULL ? 1 : strtoull(seed, NULL, 10)) * 0x9E3779B97F4A7C15u + 1;
    *enginePtrPtr = &simPtr->base;
    return 0;
}

static void
SimClose(IocpEngine *enginePtr)
{
    SimEngine *simPtr = (SimEngine *)enginePtr;

    SIM_INNER.closeProc(simPtr->innerPtr);
    free(simPtr);
}

static void
SimAttach(IocpEngine *enginePtr, IocpHandle *handlePtr)
{
    SIM_INNER.attachProc(((SimEngine *)enginePtr)->innerPtr, handlePtr);
}

static void
SimDetach(IocpEngine *enginePtr, IocpHandle *handlePtr)
{
    SIM_INNER.detachProc(((SimEngine *)enginePtr)->innerPtr, handlePtr);
}

static int
SimHold(SimEngine *simPtr, const IocpCompletion *compPtr)
{
    if (simPtr->heldCount == SIM_HELD) {
	return 0;
    }
    simPtr->held[simPtr->heldCount].completion = *compPtr;
    simPtr->held[simPtr->heldCount].reaps = 1 + SimChance(simPtr, 2) + SimChance(simPtr, 4);
    simPtr->heldCount++;
    return 1;
}

static int
SimMultishot(const IocpOp *opPtr)
{
    return opPtr->kind == IOCP_OP_ACCEPT || (opPtr->flags & IOCP_OPF_REPEAT);
}

/*
 * SimFault --
 *	The error that an op meets, or 0.
 */
static int
SimFault(SimEngine *simPtr, const IocpOp *opPtr)
{
    switch (opPtr->kind) {
    case IOCP_OP_SEND:
    case IOCP_OP_SEND_FILE:
	return SimChance(simPtr, 20) ? -EINTR : SimChance(simPtr, 100) ? -ENOBUFS : 0;
    case IOCP_OP_WRITE_FILE:
	return SimChance(simPtr, 20) ? -EINTR : 0;
    case IOCP_OP_RECV:
	return SimChance(simPtr, 20) ? -EINTR
		: opPtr->bufPtr == NULL && SimChance(simPtr, 10) ? -ENOBUFS
		: SimChance(simPtr, 100) ? -ENOMEM : 0;
    case IOCP_OP_ACCEPT:
	return SimChance(simPtr, 10) ? -ECONNABORTED : SimChance(simPtr, 20) ? -EMFILE : 0;
    default:
	return 0;
    }
}

static IocpSubmit
SimSubmit(IocpEngine *enginePtr, IocpOp *opPtr)
{
    SimEngine *simPtr = (SimEngine *)enginePtr;
    IocpCompletion completion = {.opPtr = opPtr};

    if (SimChance(simPtr, 20)) {
	return IOCP_BUSY;
    }
    completion.result = SimFault(simPtr, opPtr);
    opPtr->engineFlags = 0;
    opPtr->repeated = 0;
    if (completion.result != 0 && SimHold(simPtr, &completion)) {
	return IOCP_QUEUED;
    }
    if (opPtr->bufCount > 1 && SimChance(simPtr, 4)) {
	opPtr->bufCount = 1;
    }
    if (opPtr->kind == IOCP_OP_SEND_FILE && SimChance(simPtr, 4)) {
	((IocpFileOp *)opPtr)->count = (((IocpFileOp *)opPtr)->count + 1) / 2;
    }
    return SIM_INNER.submitProc(simPtr->innerPtr, opPtr);
}

static int
SimSendNow(IocpEngine *enginePtr, IocpHandle *handlePtr, const char *data, size_t size)
{
    SimEngine *simPtr = (SimEngine *)enginePtr;

    if (SimChance(simPtr, 4)) {
	return -EAGAIN;
    }
    if (size >= SIM_SPLIT_MIN && SimChance(simPtr, 4)) {
	size /= 2;
    }
    return IocpSendNow(simPtr->innerPtr, handlePtr, data, size);
}

static int
SimIsHeld(const SimEngine *simPtr, const IocpOp *opPtr)
{
    for (int i = 0; i < simPtr->heldCount; i++) {
	if (simPtr->held[i].completion.opPtr == opPtr
		&& !(simPtr->held[i].completion.flags & IOCP_COMPF_MORE)) {
	    return 1;
	}
    }
    return 0;
}

/*
 * A cancellation that comes too late is ordinary too: the op is complete, only nobody has heard of
 * it.
 */
static void
SimCancel(IocpEngine *enginePtr, IocpOp *opPtr)
{
    SimEngine *simPtr = (SimEngine *)enginePtr;

    if (!SimIsHeld(simPtr, opPtr)) {
	SIM_INNER.cancelProc(simPtr->innerPtr, opPtr);
    }
}

/*
 * SimRepeat --
 *	Let a receive that has something go on.
 */
static void
SimRepeat(SimEngine *simPtr, IocpCompletion *compPtr)
{
    IocpOp *opPtr = compPtr->opPtr;

    if (!(opPtr->flags & IOCP_OPF_REPEAT) || compPtr->result <= 0) {
	return;
    }
    opPtr->repeated += compPtr->result;
    if (opPtr->repeated < IOCP_REPEAT_MAX && !SimChance(simPtr, 8)) {
	opPtr->engineFlags = 0;
	if (SIM_INNER.submitProc(simPtr->innerPtr, opPtr) == IOCP_QUEUED) {
	    compPtr->flags |= IOCP_COMPF_MORE;
	}
    }
}

static int
SimReap(IocpEngine *enginePtr, IocpCompletion *completions, int max)
{
    SimEngine *simPtr = (SimEngine *)enginePtr;
    int count = 0, kept = 0, fresh;

    for (int i = 0; i < simPtr->heldCount; i++) {
	if (--simPtr->held[i].reaps <= 0 && count < max) {
	    completions[count++] = simPtr->held[i].completion;
	} else {
	    simPtr->held[kept++] = simPtr->held[i];
	}
    }
    simPtr->heldCount = kept;
    if (count == max) {
	return count;
    }
    fresh = SIM_INNER.reapProc(simPtr->innerPtr, completions + count, max - count);
    enginePtr->attending = simPtr->innerPtr->attending;
    for (int i = count; fresh > 0; fresh--) {
	/*
	 * A multishot op's results stay in order: none of them is late.
	 */
	SimRepeat(simPtr, &completions[i]);
	if (!SimMultishot(completions[i].opPtr) && SimChance(simPtr, 8)
		&& SimHold(simPtr, &completions[i])) {
	    memmove(&completions[i], &completions[i + 1],
		    (size_t)(fresh - 1) * sizeof(*completions));
	} else {
	    i++;
	    count++;
	}
    }
    return count;
}

static int
SimWait(IocpEngine *enginePtr, int64_t timeoutNs)
{
    SimEngine *simPtr = (SimEngine *)enginePtr;

    int result = SIM_INNER.waitProc(simPtr->innerPtr,
	    simPtr->heldCount > 0 ? 0 : timeoutNs);

    enginePtr->attending = simPtr->innerPtr->attending;
    return result;
}

static void
SimAttend(IocpEngine *enginePtr, int fd)
{
    SimEngine *simPtr = (SimEngine *)enginePtr;

    SIM_INNER.attendProc(simPtr->innerPtr, fd);
    enginePtr->attending = simPtr->innerPtr->attending;
}

static int
SimArm(IocpEngine *enginePtr, int armed)
{
    SimEngine *simPtr = (SimEngine *)enginePtr;

    return SIM_INNER.armProc(simPtr->innerPtr, armed) || (armed && simPtr->heldCount > 0);
}

static int
SimNotifyFd(IocpEngine *enginePtr)
{
    return SIM_INNER.notifyFdProc(((SimEngine *)enginePtr)->innerPtr);
}

static void
SimAlert(IocpEngine *enginePtr, IocpAlertProc *proc, void *clientData)
{
    SIM_INNER.alertProc(((SimEngine *)enginePtr)->innerPtr, proc, clientData);
}

static void
SimNotified(IocpEngine *enginePtr)
{
    SIM_INNER.notifiedProc(((SimEngine *)enginePtr)->innerPtr);
}

static void
SimRelease(IocpEngine *enginePtr, IocpBuf *bufPtr)
{
    SIM_INNER.releaseProc(((SimEngine *)enginePtr)->innerPtr, bufPtr);
}

static void
SimForked(IocpEngine *enginePtr)
{
    SIM_INNER.forkedProc(((SimEngine *)enginePtr)->innerPtr);
}

const IocpEngineType iocpSimEngine = {
    .typeName = "sim",
    .version = IOCP_ENGINE_VERSION,
    .probeProc = SimProbe,
    .openProc = SimOpen,
    .closeProc = SimClose,
    .attachProc = SimAttach,
    .detachProc = SimDetach,
    .submitProc = SimSubmit,
    .cancelProc = SimCancel,
    .sendNowProc = SimSendNow,
    .pushProc = IocpPush,
    .reapProc = SimReap,
    .waitProc = SimWait,
    .attendProc = SimAttend,
    .armProc = SimArm,
    .notifyFdProc = SimNotifyFd,
    .alertProc = SimAlert,
    .notifiedProc = SimNotified,
    .releaseProc = SimRelease,
    .forkedProc = SimForked
};
