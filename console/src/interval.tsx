// A difference with its interval, beside the band of differences that do not matter: the verdict at a glance.

import { points } from "./format";
import { useWidth } from "./hooks";
import type { Estimate } from "./types";

const HEIGHT = 66;
const SIDE = 12;

export function Interval({ of, margin, better, worse, scale = 100 }: { of: Estimate; margin: number; better: string; worse: string; scale?: number }) {
  const [ref, width] = useWidth<HTMLDivElement>();
  const show = (value: number) => (scale === 100 ? points(value) : (value > 0 ? "+" : "") + value.toFixed(2).replace("-", "−"));
  const { value, low, high } = of;
  const known = value !== null && low !== null && high !== null;
  const most = Math.max(2.5 * margin, ...(known ? [Math.abs(low), Math.abs(high)] : []), ...(value !== null ? [Math.abs(value)] : [])) * 1.1;
  const x = (at: number) => SIDE + ((at + most) / (2 * most)) * Math.max(0, width - 2 * SIDE);
  const unit = scale === 100 ? " points" : "";
  const told = known
    ? `Difference ${show(value)}${unit}, between ${show(low)} and ${show(high)}; within ±${(scale * margin).toFixed(scale === 100 ? 1 : 2)} does not matter`
    : "Not known yet";
  return (
    <div class="interval" ref={ref}>
      {width > 0 && (
        <svg width={width} height={HEIGHT} role="img" aria-label={told}>
          <rect class="band" x={x(-margin)} width={x(margin) - x(-margin)} y={16} height={26} />
          <line class="zero" x1={x(0)} x2={x(0)} y1={12} y2={46} />
          <text class="axis" x={SIDE} y={10}>← {better}</text>
          <text class="axis" x={width - SIDE} y={10} text-anchor="end">{worse} →</text>
          {known && (
            <g>
              <line class="span" x1={x(low)} x2={x(high)} y1={29} y2={29} />
              <line class="span" x1={x(low)} x2={x(low)} y1={23} y2={35} />
              <line class="span" x1={x(high)} x2={x(high)} y1={23} y2={35} />
              <circle class="span-dot" cx={x(value)} cy={29} r={5} />
            </g>
          )}
          {x(margin) - x(-margin) > 60 ? (
            <>
              <text class="axis" x={x(-margin)} y={60} text-anchor="middle">{show(-margin)}</text>
              <text class="axis" x={x(margin)} y={60} text-anchor="middle">{show(margin)}</text>
            </>
          ) : <text class="axis" x={x(0)} y={60} text-anchor="middle">±{show(margin).replace("+", "")}</text>}
        </svg>
      )}
      <p class="hint">{known ? `${show(value)}${unit} (between ${show(low)} and ${show(high)}). ` : "Not known yet. "}The grey band holds differences too small to matter.</p>
    </div>
  );
}
