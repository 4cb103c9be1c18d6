# Rubin's rules against mice::pool on given imputations, metafor over the trials; and the moments of
# mice's norm draws, to hold our own imputation model against.
# Run: Rscript imputed.R > imputed.json  (writes imputed.csv, mice's long form, beside it)
suppressMessages({library(mice); library(metafor); library(jsonlite)})
RNGversion("4.2.0"); set.seed(41)
rows <- do.call(rbind, lapply(c("ALPHA", "BRAVO", "CHARLIE"), function(t) {
  n <- c(ALPHA = 60, BRAVO = 44, CHARLIE = 52)[t]; arm <- sample(c("control", "active"), n, TRUE)
  b <- round(rnorm(n, 45, 8), 1); age <- round(rnorm(n, 61, 9), 1)
  y <- round(15 + 0.6 * b - 0.1 * (age - 61) + 2.5 * (arm == "active") + rnorm(n, 0, 6), 2)
  if (t != "CHARLIE") y[runif(n) < plogis(-1.6 + 0.05 * (45 - b) + 0.5 * (arm == "active"))] <- NA
  data.frame(trial = t, participant_id = sprintf("%s-%02d", substr(t, 1, 1), 1:n), arm = arm,
             age_years = age, lv_ef_baseline = b, lv_ef_percent = y) }))
m <- 5
parts <- split(rows, list(rows$trial, rows$arm))
done <- lapply(parts, function(d) { if (!anyNA(d$lv_ef_percent)) return(
    do.call(rbind, lapply(0:m, function(i) cbind(.imp = i, d))))
  i <- mice(d[, c("lv_ef_percent", "lv_ef_baseline", "age_years")], m = m, method = "norm",
            maxit = 1, printFlag = FALSE, seed = 9)
  l <- complete(i, "long", include = TRUE); r <- d[l$.id, ]; r$lv_ef_percent <- l$lv_ef_percent
  cbind(.imp = l$.imp, r) })
long <- do.call(rbind, done); long <- long[order(long$.imp, long$trial, long$participant_id), ]
write.csv(long, "imputed.csv", row.names = FALSE, na = "", quote = FALSE)
long <- read.csv("imputed.csv"); long$arm <- relevel(factor(long$arm), "control")
fit <- function(t, f) { p <- pool(lapply(1:m, function(i) lm(f, long[long$trial == t &
    long$.imp == i, ]))); s <- summary(p, conf.int = TRUE); r <- s[s$term == "armactive", ]
  data.frame(trial = t, estimate = r$estimate, se = r$std.error, df = r$df,
             ci_low = r[["2.5 %"]], ci_high = r[["97.5 %"]]) }
f <- lv_ef_percent ~ arm + lv_ef_baseline + age_years
e <- do.call(rbind, lapply(c("ALPHA", "BRAVO"), fit, f = f))
w <- summary(lm(f, long[long$trial == "CHARLIE" & long$.imp == 1, ]))   # nothing was missing
e <- rbind(e, data.frame(trial = "CHARLIE", estimate = coef(w)["armactive", 1],
  se = coef(w)["armactive", 2], df = w$df[2], ci_low = NA, ci_high = NA))
p <- rma(estimate, sei = se, data = e, test = "adhoc", control = list(threshold = 1e-12))
# Moments of many draws of mice's norm for one arm of one trial
d <- parts[["BRAVO.active"]]; big <- 4000
i <- mice(d[, c("lv_ef_percent", "lv_ef_baseline", "age_years")], m = big, method = "norm",
          maxit = 1, printFlag = FALSE, seed = 3)
z <- as.matrix(i$imp$lv_ef_percent); mean_of <- colMeans(z)
cat(toJSON(list(made_by = list(R = R.version.string, mice = as.character(packageVersion("mice")),
    metafor = as.character(packageVersion("metafor"))),
  trials = e, pooled = list(estimate = as.numeric(p$beta), se = p$se, ci_low = p$ci.lb,
  ci_high = p$ci.ub), draws = list(trial = "BRAVO", arm = "active", imputations = big,
  missing = nrow(z), mean = mean(mean_of), sd_of_mean = sd(mean_of),
  person_mean = unname(rowMeans(z)), person_sd = unname(apply(z, 1, sd)))),
  digits = I(17), auto_unbox = TRUE, pretty = TRUE, na = "null"), "\n")
