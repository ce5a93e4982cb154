import { memo } from "react";

import { NODE, type Arrow, type Diagram, type Node } from "./diagram.js";

export interface Transition {
  readonly from: string;
  readonly symbol: string;
  readonly to: string;
}

interface Props {
  readonly name: string;
  readonly diagram: Diagram;
  readonly last: Transition | undefined;
}

/** A state machine, with the state lit in which it is, and the arrow that led there. */
export const Machine = memo(function Machine({ name, diagram, last }: Props) {
  const { width, height, nodes, arrows } = diagram;
  const at = (state: string) => nodes.find((node) => node.state === state)!;
  const isTaken = ({ from, to }: Arrow) => from === last?.from && to === last.to;
  const told = last ? `${name} is ${last.to}, after ${last.symbol} while ${last.from}` : `${name} has not begun`;
  return (
    <figure className="machine">
      <figcaption>
        <strong>{name}</strong> {last ? `${last.from} → ${last.to}: ${last.symbol}` : "not begun"}
      </figcaption>
      <svg width={width} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={told}>
        {[...arrows].sort((one, other) => Number(isTaken(one)) - Number(isTaken(other))).map((arrow) => (
          <path
            key={`${arrow.from} ${arrow.to}`}
            className={isTaken(arrow) ? "arrow taken" : "arrow"}
            d={pathOf(at(arrow.from), at(arrow.to))}
          />
        ))}
        {nodes.map(({ state, x, y }) => (
          <g key={state} className={state === last?.to ? "state current" : "state"}>
            <rect x={x - NODE.width / 2} y={y - NODE.height / 2} width={NODE.width} height={NODE.height} rx={6} />
            <text x={x} y={y} dominantBaseline="central" textAnchor="middle">
              {state}
            </text>
          </g>
        ))}
      </svg>
    </figure>
  );
});

/** Forward from side to side; back, and within a column, in a bow. */
function pathOf(from: Node, to: Node): string {
  const half = NODE.width / 2;
  if (to.x > from.x) {
    const [begin, end] = [from.x + half, to.x - half];
    const middle = (begin + end) / 2;
    return `M${begin} ${from.y}C${middle} ${from.y} ${middle} ${to.y} ${end} ${to.y}`;
  }
  const side = to.x === from.x ? half : 0;
  const bow = to.x === from.x ? 14 + Math.abs(to.y - from.y) / 8 : 0;
  const drop = to.x === from.x ? 0 : 26;
  const edge = to.x === from.x ? 0 : NODE.height / 2;
  return (
    `M${from.x + side} ${from.y + edge}` +
    `C${from.x + side + bow} ${from.y + edge + drop} ${to.x + side + bow} ${to.y + edge + drop} ${to.x + side} ${to.y + edge}`
  );
}
