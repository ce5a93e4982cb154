/** How often a tab that follows looks whether it heard of the one that reads. */
export const PERIOD_MS = 3_000;

/**
 * Tells when a reader is frozen: it was silent for a period, was asked, and did not answer for another one. It need not
 * say anything unasked: the repeated timers of a hidden tab may come a minute apart, while an answer takes a second at most.
 */
export class FailureDetector {
  #isHeard = true;
  #isAsked = false;
  #lookedAt = Date.now();
  #timer: ReturnType<typeof setInterval>;

  constructor(ask: () => void, suspect: () => void) {
    this.#timer = setInterval(() => {
      // Who was frozen itself has the answer still before it.
      const isLate = Date.now() - this.#lookedAt > 2 * PERIOD_MS;
      this.#lookedAt = Date.now();
      const isSuspect = this.#isAsked && !this.#isHeard && !isLate;
      this.#isAsked = !this.#isHeard || isLate;
      this.#isHeard = false;
      if (isSuspect) suspect();
      else if (this.#isAsked) ask();
    }, PERIOD_MS);
  }

  /** The reader gave a sign of life. */
  noteLife(): void {
    this.#isHeard = true;
  }

  end(): void {
    clearInterval(this.#timer);
  }
}
