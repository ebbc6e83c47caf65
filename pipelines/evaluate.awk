# evaluate.awk: pass@k, lengths and intervals of scored responses; a part of evaluate.sh.
#   in   one line a response, by tabs: seed, question, its reward if it was judged (else "-"), response tokens, finish
#   -v   name temperature samples passing (smallest reward that passes) ks ("1,2,4") columns (of the table, likewise) json (0 or 1)
#   out  one line of the table, or one JSON object
#
# pass@k = mean over questions of 1 - C(n-c, k) / C(n, k), with n responses of which c pass: the chance that at least one of k of them passes, without bias.
#   Source  Chen et al. 2021, arXiv 2107.03374, equation 1, as the product that its figure 3 computes.
# A margin is half of the two-sided 95 % interval of a mean over seeds, t(0.975, S-1) * s / sqrt(S): what other seeds would change, not what other questions would.
function pass_at(n, c, k,    i, none) {
  none = 1
  for (i = n - c + 1; i <= n; i++) none *= i > k ? 1 - k / i : 0
  return 1 - none
}
# Student's t, 0.975 quantile: a table, then the expansion in 1/df around the normal's (Abramowitz and Stegun 26.7.5).
function student(df) {
  split("12.7062 4.30265 3.18245 2.77645 2.57058 2.44691 2.36462 2.30600 2.26216 2.22814 2.20099 2.17881 2.16037 2.14479 2.13145 2.11991 2.10982 2.10092 2.09302 2.08596 2.07961 2.07387 2.06866 2.06390 2.05954 2.05553 2.05183 2.04841 2.04523 2.04227", table, " ")
  return df <= 30 ? table[df] : 1.95996 + 2.37227 / df + 2.82250 / (df * df)
}
# Over the seeds of values[key, seed]: sets mean and margin (-1 with one seed, or none of whose questions count).
function over_seeds(key,    s, count, sum, squares) {
  count = sum = squares = 0
  for (s in seeds) if ((key, s) in values) { count++; sum += values[key, s] }
  if (!count) { mean = margin = -1; return }
  mean = sum / count
  for (s in seeds) if ((key, s) in values) squares += (values[key, s] - mean) ^ 2
  margin = count > 1 ? student(count - 1) * sqrt(squares / (count - 1) / count) : -1
}
function number(x, format) { return x < 0 ? "null" : sprintf(format, x) }
function cell(format,    text, shown) {
  text = mean < 0 ? "-" : sprintf(format, mean) (margin < 0 ? "" : " ± " sprintf(format, margin))
  shown = text
  sub(/±/, "+", shown)  # one place, not two bytes
  while (length(shown) < 15) { shown = shown " "; text = text " " }
  return "  " text
}
BEGIN { FS = "\t"; num_ks = split(ks, k_of, ","); num_columns = split(columns, column_of, ",") }
{
  seeds[$1]
  questions[$2]
  responses[$1]++
  tokens[$1] += $4
  if ($5 == "length") truncated++
  if ($3 == "-") { unjudged++; next }
  judged++
  reward += $3
  n[$1, $2]++
  if ($3 + 0 >= passing) c[$1, $2]++
}
END {
  if (!judged) { print "evaluate: no response was judged: " unjudged + 0 " could not be" > "/dev/stderr"; exit 1 }
  num_questions = num_seeds = 0
  for (q in questions) num_questions++
  for (s in seeds) { num_seeds++; values["tokens", s] = tokens[s] / responses[s]; all += responses[s] }
  for (i = 1; i <= num_ks; i++) {
    k = k_of[i]
    short = 0
    for (s in seeds) {
      sum = count = 0
      for (q in questions) {
        if (n[s, q] < k) { short++; continue }
        sum += pass_at(n[s, q], c[s, q] + 0, k)
        count++
      }
      if (count) values["pass" k, s] = sum / count
    }
    if (short) printf "evaluate: %s: %d times a question had fewer than %d responses that could be judged, and does not count in pass@%d\n", name, short, k, k > "/dev/stderr"
  }
  if (json) {
    printf "{\"evaluation\":\"%s\",\"temperature\":%s,\"questions\":%d,\"seeds\":%d,\"samples\":%d,\"judged\":%d,\"not_judged\":%d,\"mean_reward\":%.6f",
      name, temperature, num_questions, num_seeds, samples, judged, unjudged, reward / judged
    for (i = 1; i <= num_ks; i++) {
      over_seeds("pass" k_of[i])
      printf ",\"pass_at_%d\":%s,\"pass_at_%d_margin\":%s", k_of[i], number(mean, "%.6f"), k_of[i], number(margin, "%.6f")
    }
    over_seeds("tokens")
    printf ",\"mean_tokens\":%s,\"mean_tokens_margin\":%s,\"truncated_share\":%.6f}\n", number(mean, "%.2f"), number(margin, "%.2f"), truncated / all
  } else {
    line = sprintf("%-8s", name)
    for (i = 1; i <= num_columns; i++) { over_seeds("pass" column_of[i]); line = line cell("%.3f") }
    over_seeds("tokens")
    printf "%s%s  %8.1f%%  %10d\n", line, cell("%.1f"), 100 * truncated / all, unjudged
  }
}
