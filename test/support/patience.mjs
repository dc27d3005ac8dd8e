/** Gives each test of a project the time that jest.config.js says. */
import { jest } from '@jest/globals';

jest.setTimeout(globalThis.TEST_TIMEOUT_MS);
