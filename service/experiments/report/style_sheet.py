"""The style sheet of the page. In a module, so that it is there wherever the code is."""

STYLE = """\
:root { --ink: #222; --quiet: #5c5c5c; --line: #ddd; --ground: #fff; --better: #005a8f; --worse: #a34600;
  --broken: #b00020 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --quiet: #a8a8a8; --line: #3f444a; --ground: #17191c; --better: #5db5ec; --worse: #ff9d57;
    --broken: #ff7b8a }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; overflow-wrap: anywhere }
p { margin: 0.5rem 0 }
h1 { font-size: 2.2rem; line-height: 1.15; margin: 0.25rem 0 0.75rem }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.5rem }
h2 small { color: var(--quiet); font-weight: normal }
h2 span { border: 1px solid; border-radius: 1em; padding: 0.1em 0.7em; font-size: 0.8rem; white-space: nowrap }
.better { color: var(--better) }
.worse { color: var(--worse) }
.broken, .warned { color: var(--broken) }
h2 .undecided { color: var(--quiet) }
.why { font-size: 1.1rem }
.quiet, footer, caption { color: var(--quiet); font-size: 0.9rem }
img { display: block; width: 100%; max-width: 34rem; height: auto; margin: 1.25rem auto }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; overflow-wrap: normal }
caption { caption-side: bottom; text-align: left; padding-top: 0.5rem }
th, td { padding: 0.4rem 0.5rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top }
th[scope="row"] { text-align: left; font-weight: normal; padding-left: 0 }
td small { display: block; color: var(--quiet) }
li { margin: 0.35rem 0 }
footer { margin-top: 2.5rem }
@media (max-width: 30rem) {
  table { font-size: 0.82rem }
  th, td { padding: 0.35rem 0.25rem }
}
"""
