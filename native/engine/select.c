/*
 * select.c --
 *	Which engine runs: the first of the table that can be set up here, or the one that the
 *	environment variable TCLCHAN_ENGINE names. A named engine that cannot run is an error, never
 *	a silent fallback.
 */

#include "engine.h"

const IocpEngineType *const iocpEngineTypes[] = {
#ifdef IOCP_HAVE_URING
    &iocpUringEngine,
#endif
#ifdef _WIN32
    &iocpWinEngine,
#else
    &iocpEpollEngine,
#endif
#ifdef IOCP_TESTING
    &iocpSimEngine,
#endif
    NULL
};

/*
 * IocpEngineOpen --
 *	Choose by trying. What could be set up a moment ago, may not be a moment later, or not at
 *	its full size: then the next one is tried.
 * Results:
 *	An engine; or NULL with errno, and in reason a message for the user.
 */
IocpEngine *
IocpEngineOpen(char *reason, size_t size)
{
    char value[64];
    const char *wanted = IocpGetenv("TCLCHAN_ENGINE", value, sizeof(value));
    int any = wanted == NULL || *wanted == '\0' || strcmp(wanted, "auto") == 0;
    char why[200];
    int used, result;
    IocpEngine *enginePtr;

    errno = EINVAL;
    for (int i = 0; iocpEngineTypes[i] != NULL; i++) {
	const IocpEngineType *typePtr = iocpEngineTypes[i];

	if (typePtr->version != IOCP_ENGINE_VERSION
		|| (!any && strcmp(wanted, typePtr->typeName) != 0)) {
	    continue;
	}
	result = typePtr->probeProc(why, sizeof(why));
	if (result == 0) {
	    result = typePtr->openProc(&enginePtr);
	    if (result == 0) {
		return enginePtr;
	    }
	    snprintf(why, sizeof(why), "%s", strerror(-result));
	}
	errno = -result;
	if (!any) {
	    snprintf(reason, size, "iocp engine \"%s\" cannot be used here: %s", wanted, why);
	    return NULL;
	}
    }
    if (any) {
	snprintf(reason, size, "no iocp engine can be used here: %s", why);
	return NULL;
    }
    used = snprintf(reason, size, "unknown engine \"%.60s\": must be auto", wanted);
    for (int i = 0; iocpEngineTypes[i] != NULL && used > 0 && (size_t)used < size; i++) {
	int last = iocpEngineTypes[i + 1] == NULL;

	used += snprintf(reason + used, size - (size_t)used, "%s%s%s", last && i == 0 ? "" : ",",
		last ? " or " : " ", iocpEngineTypes[i]->typeName);
    }
    return NULL;
}
