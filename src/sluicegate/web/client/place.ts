const ID = /^([A-Za-z0-9._]{1,40})-([1-9]\d{0,11})$/;

/** Where a reader is in the frames of one run: each frame is taken once, in order, and none is missed unseen. */
export class Place {
  #epoch = "";
  #seq = 0;

  /** Behind the frame `after`, or before the first one. */
  constructor(after = "") {
    if (after) this.take(after, true);
  }

  /** The id of the last frame taken, "" before the first. */
  get id(): string {
    return this.#seq ? `${this.#epoch}-${this.#seq}` : "";
  }

  /**
   * Judge the frame `id` and stand behind it if it is new; with `jump` it makes up for those left out before it.
   * Returns undefined, and moves nothing, if it is of another run or not the next one.
   */
  take(id: string, jump: boolean): "next" | "seen" | undefined {
    const match = ID.exec(id);
    if (!match) return undefined;
    const [epoch, seq] = [match[1]!, Number(match[2])];
    if (this.#epoch && this.#epoch !== epoch) return undefined;
    if (seq <= this.#seq) return "seen";
    if (seq > this.#seq + 1 && !jump) return undefined;
    [this.#epoch, this.#seq] = [epoch, seq];
    return "next";
  }
}
