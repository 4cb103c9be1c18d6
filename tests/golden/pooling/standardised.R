# Standardised mean differences of trials.csv (see two_stage.R): metafor's SMD without a baseline,
# and the same formula on lm's ANCOVA difference.
# Run: Rscript standardised.R > standardised.json
suppressMessages({library(metafor); library(jsonlite)})
rows <- read.csv("trials.csv", colClasses = c(participant_id = "character"))
two <- rows[rows$trial != "DELTA", ]                       # DELTA has three arms
plain <- do.call(rbind, lapply(unique(two$trial), function(t) {
  d <- two[two$trial == t & !is.na(two$lv_ef_percent), ]; y <- split(d$lv_ef_percent, d$arm)
  e <- escalc("SMD", m1i = mean(y$active), sd1i = sd(y$active), n1i = length(y$active),
    m2i = mean(y$control), sd2i = sd(y$control), n2i = length(y$control))
  data.frame(trial = t, estimate = as.numeric(e$yi), se = sqrt(e$vi)) }))
fill <- function(x) ifelse(is.na(x), mean(x, na.rm = TRUE), x)
ancova <- do.call(rbind, lapply(unique(two$trial), function(t) {
  d <- two[two$trial == t, ]; d$b <- fill(d$lv_ef_baseline); d <- d[!is.na(d$lv_ef_percent), ]
  d$arm <- relevel(factor(d$arm), "control"); co <- coef(summary(lm(lv_ef_percent ~ arm + b, d)))
  n <- nrow(d); s <- sqrt(sum(tapply(d$lv_ef_percent, d$arm, function(x) sum((x - mean(x))^2))) / (n - 2))
  m <- n - 2; j <- exp(lgamma(m / 2) - lgamma((m - 1) / 2)) / sqrt(m / 2); g <- j * co[2, 1] / s
  data.frame(trial = t, estimate = g, se = sqrt((co[2, 2] / s)^2 + g^2 / (2 * n))) }))
cat(toJSON(list(made_by = list(R = R.version.string, metafor = as.character(packageVersion(
  "metafor"))), plain = plain, ancova = ancova), digits = I(17), auto_unbox = TRUE, pretty = TRUE), "\n")
