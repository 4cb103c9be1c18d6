# Golden values of the effect corrected for the error of measurement: lm() of the model's values on
# the reader's, metafor over the trials' slopes and effects, the delta method and Fieller's interval
# written out. Run: Rscript error_model.R > error_model.json  (writes error_hearts.csv beside it)
suppressMessages({library(metafor); library(jsonlite)})
RNGversion("4.2.0"); set.seed(20261201)

hearts <- do.call(rbind, lapply(1:5, function(i) {
  n <- c(24, 40, 18, 60, 33)[i]
  reader <- rnorm(n, 52 + i, 11)
  data.frame(trial = paste0("T", i), reader = round(reader, 3),
             model = round(2 + c(0.86, 0.93, 0.80, 0.98, 0.90)[i] * reader + rnorm(n, 0, 3.4), 3))
}))
write.csv(hearts, "error_hearts.csv", row.names = FALSE, quote = FALSE)
y <- c(2.6, 3.9, 1.2, 4.4, 2.1); se <- c(0.9, 1.1, 0.8, 1.3, 0.7)   # of T1 to T5

line <- function(d) {
  fit <- lm(model ~ reader, data = d)
  list(coef = unname(coef(fit)), vcov = unname(vcov(fit)), sd = summary(fit)$sigma,
       df = fit$df.residual)
}
own <- lapply(split(hearts, hearts$trial), line)
all <- line(hearts)

# Partial pooling of the slopes: empirical Bayes by metafor, errors of Prasad & Rao with its tau2.
b <- sapply(own, function(o) o$coef[2]); vb <- sapply(own, function(o) o$vcov[2, 2])
re <- rma(yi = b, vi = vb, method = "REML", control = list(threshold = 1e-12, maxiter = 1000))
shrunk <- blup(re)
g <- shrunk$se^2 + 2 * vb^2 * re$se.tau2^2 / (vb + re$tau2)^3
mse <- pmin(g, vb)

sat <- function(v, df) sum(v)^2 / sum(v^2 / df)
pool <- function(yi, vi) rma(yi = yi, vi = vi, method = "REML", test = "adhoc",
                             control = list(threshold = 1e-12, maxiter = 1000))
# All trials share the line of all hearts.
m <- pool(y, se^2); beta <- all$coef[2]; se_b <- sqrt(all$vcov[2, 2])
est <- as.numeric(m$beta) / beta
parts <- c((m$se / beta)^2, (est * se_b / beta)^2); df <- sat(parts, c(4, all$df))
shared <- list(estimate = est, se = sqrt(sum(parts)), df = df,
               ci = est + c(-1, 1) * qt(0.975, df) * sqrt(sum(parts)))
# Each trial has its own, partially pooled.
d <- as.numeric(pool(y / shrunk$pred, se^2 / shrunk$pred^2)$beta)
c1 <- pool(y / shrunk$pred, se^2 / shrunk$pred^2 + d^2 * mse / shrunk$pred^2)
trials <- list(estimate = as.numeric(c1$beta), se = c1$se, tau2 = c1$tau2,
               ci = c(c1$ci.lb, c1$ci.ub))
# Fieller's interval of 3.0 (SE 0.8, 9 df) over 0.9 (SE 0.15, 18 df).
f <- (function(n, sn, dn, x, sx, dx) {
  t <- qt(0.975, sat(c((sn / x)^2, (n * sx / x^2)^2), c(dn, dx)))
  sort(Re(polyroot(c(n^2 - t^2 * sn^2, -2 * n * x, x^2 - t^2 * sx^2))))
})(3.0, 0.8, 9, 0.9, 0.15, 18)

cat(toJSON(list(R = R.version.string, metafor = as.character(packageVersion("metafor")),
  y = y, se = se, all = all, own = own, slopes = list(pred = shrunk$pred, mse = unname(mse),
  tau2 = re$tau2, mean = as.numeric(re$beta)), measured = list(estimate = as.numeric(m$beta),
  se = m$se, tau2 = m$tau2), shared = shared, trials = trials, fieller = f),
  digits = 15, auto_unbox = TRUE))
