// A chart over time: drawn to the width that there is, with its numbers as a table for those who want them.

import { useState } from "preact/hooks";
import { clock, when } from "./format";
import { useWidth } from "./hooks";
import { Table } from "./ui";

export interface Series { name: string; points: { at: number; value: number | null; weight?: number }[] }

const HEIGHT = 220;
const LEFT = 46;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 26;

/** Round values, about four steps, that reach from below `low` to above `high`. */
export function ticks(low: number, high: number): number[] {
  const raw = (high - low || 1) / 4;
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * base).find((each) => each >= raw)!;
  const [first, last] = [Math.floor(low / step + 1e-9), Math.ceil(high / step - 1e-9)];
  return Array.from({ length: last - first + 1 }, (_, place) => (first + place) * step);
}

export function Chart({ label, series, show, zero }: { label: string; series: Series[]; show: (value: number) => string; zero?: boolean }) {
  const [ref, width] = useWidth<HTMLElement>();
  const [near, setNear] = useState<number | null>(null);
  const known = series.flatMap((each) => each.points).filter((point) => point.value !== null) as { at: number; value: number }[];
  const times = [...new Set(series.flatMap((each) => each.points.map((point) => point.at)))].sort((a, b) => a - b);
  if (!known.length) return <p class="muted">Nothing to draw yet.</p>;
  const values = known.map((point) => point.value);
  let low = zero ? 0 : Math.min(...values);
  let high = Math.max(...values);
  if (high - low < 1e-9) [low, high] = zero ? [0, high || 0.1] : [low - 0.5, high + 0.5];
  const steps = ticks(low, high);
  [low, high] = [steps[0]!, steps.at(-1)!];
  const [first, last] = [times[0]!, times.at(-1)!];
  const long = last - first > 2 * 86400;
  const x = (at: number) => LEFT + (last > first ? (at - first) / (last - first) : 0.5) * Math.max(0, width - LEFT - RIGHT);
  const y = (value: number) => TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const labels = width < 420 ? [first, last] : [first, (first + last) / 2, last];

  const move = (event: PointerEvent) => {
    const at = event.offsetX;
    setNear(times.reduce((best, time) => (Math.abs(x(time) - at) < Math.abs(x(best) - at) ? time : best), times[0]!));
  };

  return (
    <figure class="chart" ref={ref}>
      <ul class="legend">
        {series.map((each, place) => (
          <li>
            <svg width="26" height="12" aria-hidden="true"><line class={`line s${place % 6}`} x1="0" x2="26" y1="6" y2="6" /></svg>
            {each.name}
            {near !== null && <strong> {shown(each, near, show)}</strong>}
          </li>
        ))}
        {near !== null && <li class="muted">{when(near)}</li>}
      </ul>
      {width > 0 && (
        <svg width={width} height={HEIGHT} role="img" aria-label={`${label}: ${summary(series, show)}`} onPointerMove={move} onPointerLeave={() => setNear(null)}>
          {steps.map((value) => (
            <g>
              <line class="grid" x1={LEFT} x2={width - RIGHT} y1={y(value)} y2={y(value)} />
              <text class="axis" x={LEFT - 6} y={y(value) + 4} text-anchor="end">{show(value)}</text>
            </g>
          ))}
          {last > first && labels.map((at, place) => (
            <text class="axis" x={x(at)} y={HEIGHT - 6} text-anchor={place === 0 ? "start" : at === last ? "end" : "middle"}>{clock(at, long)}</text>
          ))}
          {near !== null && <line class="near" x1={x(near)} x2={x(near)} y1={TOP} y2={HEIGHT - BOTTOM} />}
          {series.map((each, place) => (
            <g class={`s${place % 6}`}>
              {runs(each).map((run) => (
                <path class={`line s${place % 6}`} d={run.map((point, i) => `${i ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point.value).toFixed(1)}`).join("")} />
              ))}
              {each.points.map((point) => point.value !== null && <circle class={`dot s${place % 6}`} cx={x(point.at)} cy={y(point.value)} r={point.at === near ? 4.5 : 2.5} />)}
            </g>
          ))}
        </svg>
      )}
      <details>
        <summary>As a table</summary>
        <Table label={label} head={["time", ...series.map((each) => each.name)]}>
          {times.map((time) => (
            <tr><th scope="row">{when(time)}</th>{series.map((each) => <td class="num">{shown(each, time, show)}</td>)}</tr>
          ))}
        </Table>
      </details>
    </figure>
  );
}

function shown(series: Series, at: number, show: (value: number) => string): string {
  const value = series.points.find((point) => point.at === at)?.value;
  return value === null || value === undefined ? "–" : show(value);
}

/** Points that follow each other: a gap in what is known is a gap in the line. */
function runs(series: Series): { at: number; value: number }[][] {
  const found: { at: number; value: number }[][] = [[]];
  for (const point of series.points) {
    if (point.value === null) found.push([]);
    else found.at(-1)!.push({ at: point.at, value: point.value });
  }
  return found.filter((run) => run.length > 1);
}

function summary(series: Series[], show: (value: number) => string): string {
  return series
    .map((each) => {
      const last = each.points.findLast((point) => point.value !== null);
      return last ? `${each.name} last ${show(last.value!)}` : `${each.name} nothing yet`;
    })
    .join(", ");
}
