/*
 * iocpSettings.c --
 *	How channels are to be: what the options set. Thousands of connections have what their
 *	listener had when it accepted them, and share it; so do all that nobody has set anything of.
 *
 *	What is shared never changes: a channel that is to be otherwise gets settings of its own.
 *	Channels change threads, hence the count is atomic, and what only one has is that one's.
 */

#include "iocpInt.h"

/*
 * Nagle's algorithm is off: Tcl's buffers gather small writes already, and a response whose header
 * and body leave one after the other would wait some 40 ms for the peer's delayed acknowledgement.
 */
const IocpSettings iocpDefaultSettings = {
    .recvMode = IOCP_RECV_ZERO_BYTE, .recvCap = 1, .recvBufCap = 1,
    .sendCap = IOCP_SENDCAP, .lingerSeconds = IOCP_LINGER_SECONDS,
    .sockopts = {
	[IOCP_SO_REUSEADDR] = -1, [IOCP_SO_REUSEPORT] = -1, [IOCP_SO_KEEPALIVE] = -1,
	[IOCP_SO_NODELAY] = 1, [IOCP_SO_SNDBUF] = -1, [IOCP_SO_RCVBUF] = -1,
	[IOCP_SO_TCLASS] = -1, [IOCP_SO_PRIORITY] = -1, [IOCP_SO_PACING] = -1
    }
};

/* Belongs to the channels that have it; the last one frees it. The defaults are none. */
typedef struct Shared {
    IocpSettings settings;	/* Must be first: IocpChan.settingsPtr. */
    _Atomic int users;
} Shared;

static Shared *
SharedOf(const IocpChan *chanPtr)
{
    return chanPtr->settingsPtr == &iocpDefaultSettings ? NULL : (Shared *)chanPtr->settingsPtr;
}

/*
 * IocpSettingsPut --
 *	The channel is to be so.
 * Results:
 *	0 if out of memory: it stays as it is. That cannot be for a channel whose settings are its
 *	own, as they are after a change.
 */
int
IocpSettingsPut(IocpChan *chanPtr, const IocpSettings *settingsPtr)
{
    Shared *sharedPtr = SharedOf(chanPtr);

    if (memcmp(chanPtr->settingsPtr, settingsPtr, sizeof(IocpSettings)) == 0) {
	return 1;
    }
    if (sharedPtr == NULL || atomic_load(&sharedPtr->users) > 1) {
	sharedPtr = IocpAlloc(chanPtr->threadPtr, sizeof(Shared));
	if (sharedPtr == NULL) {
	    return 0;
	}
	IocpSettingsDrop(chanPtr);
	atomic_init(&sharedPtr->users, 1);
	chanPtr->settingsPtr = &sharedPtr->settings;
    }
    sharedPtr->settings = *settingsPtr;
    return 1;
}

/*
 * IocpSettingsShare --
 *	The channel is to be as another is now.
 */
void
IocpSettingsShare(IocpChan *chanPtr, const IocpChan *otherPtr)
{
    Shared *sharedPtr = SharedOf(otherPtr);

    if (sharedPtr != NULL) {
	atomic_fetch_add(&sharedPtr->users, 1);
    }
    IocpSettingsDrop(chanPtr);
    chanPtr->settingsPtr = otherPtr->settingsPtr;
}

/*
 * IocpSettingsDrop --
 *	The channel is freed, or gets other settings.
 */
void
IocpSettingsDrop(IocpChan *chanPtr)
{
    Shared *sharedPtr = SharedOf(chanPtr);

    if (sharedPtr != NULL && atomic_fetch_sub(&sharedPtr->users, 1) == 1) {
	IocpFree(chanPtr->threadPtr, sharedPtr, sizeof(Shared));
    }
    chanPtr->settingsPtr = &iocpDefaultSettings;
}
