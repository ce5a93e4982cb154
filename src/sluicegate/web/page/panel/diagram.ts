/** A state machine as a picture: `Arrow` leads from state to state, its symbols say what happened. */
export interface Diagram {
  readonly width: number;
  readonly height: number;
  readonly nodes: readonly Node[];
  readonly arrows: readonly Arrow[];
}

export interface Node {
  readonly state: string;
  readonly x: number;
  readonly y: number;
}

export interface Arrow {
  readonly from: string;
  readonly to: string;
  readonly symbols: readonly string[];
}

export const NODE = { width: 92, height: 26 };
const COLUMN = 144;
const ROW = 36;

/** The diagram of a Mermaid state diagram as `specs/` has them. Columns are the steps from the start; ends come last. */
export function diagramOf(source: string): Diagram {
  const arrows = [...source.matchAll(/^ *(\w+) --> (\w+): (.+)$/gm)].map(([, from, to, symbols]) => ({
    from: from!,
    to: to!,
    symbols: symbols!.split(", "),
  }));
  const start = /\[\*\] --> (\w+)/.exec(source)![1]!;
  const isEnd = (state: string) => arrows.every(({ from, to }) => from !== state || to === state);
  const ranks = new Map([[start, 0]]);
  for (const [state, rank] of ranks) {
    if (isEnd(state)) continue;
    for (const { from, to } of arrows) if (from === state && !ranks.has(to)) ranks.set(to, rank + 1);
  }
  const last = Math.max(...[...ranks].filter(([state]) => !isEnd(state)).map(([, rank]) => rank)) + 1;
  for (const state of ranks.keys()) if (isEnd(state)) ranks.set(state, last);
  const columns = Array.from({ length: last + 1 }, (_, rank) => [...ranks.keys()].filter((state) => ranks.get(state) === rank));
  const rows = Math.max(3, ...columns.map((column) => column.length));
  // A lone state stands above or below the middle in turn, so that arrows over two columns do not pass behind it.
  const place = (length: number, row: number, rank: number) => (length > 1 ? (row + 0.5) / length : (rank % 2) / 2 + 0.25);
  const nodes = columns.flatMap((column, rank) =>
    column.map((state, row) => ({
      state,
      x: NODE.width / 2 + 4 + rank * COLUMN,
      y: place(column.length, row, rank) * rows * ROW + 4,
    })),
  );
  return { width: last * COLUMN + NODE.width + 8, height: rows * ROW + 8, nodes, arrows: arrows.filter(({ from, to }) => from !== to) };
}
